package tlsconn

import (
	"net"
	"syscall"

	"kloop/ktls"
)

// kernelCan answers why the kernel can't protect a connection's records.
func kernelCan(nc net.Conn, sealer *ktls.Sealer) error {
	if _, ok := nc.(*net.TCPConn); !ok {
		return &ktls.UnsupportedError{Reason: "the kernel's TLS works over TCP sockets only"}
	}
	return ktls.KernelCan(sealer)
}

// giveToKernel moves both directions to the kernel, as far as it goes.
func (c *Conn) giveToKernel() {
	err := kernelCan(c.raw, c.out.sealer)
	if err == nil {
		c.socket, err = c.raw.(syscall.Conn).SyscallConn()
	}
	if err == nil {
		err = c.withSocket(ktls.EnableKernel)
	}
	if err == nil {
		err = c.withSocket(c.out.sealer.GiveToKernel)
	}
	if err != nil {
		c.setOffload(Offload{TX: Go, RX: Go, Why: err})
		return
	}
	c.out.kernel, c.in.waiting = true, true
	c.setOffload(Offload{TX: Kernel, RX: Kernel})
	if len(c.in.buffered) == 0 {
		c.startKernelRead()
	}
}

// startKernelRead gives the kernel what comes next; nothing is buffered.
func (c *Conn) startKernelRead() {
	c.in.waiting = false
	if err := c.withSocket(c.in.opener.GiveToKernel); err != nil {
		c.setOffload(Offload{TX: Kernel, RX: Go, Why: err})
		return
	}
	c.in.kernel = true
}

func (c *Conn) withSocket(do func(fd int) error) error {
	var err error
	if rawErr := c.socket.Control(func(fd uintptr) { err = do(int(fd)) }); rawErr != nil {
		return rawErr
	}
	return err
}

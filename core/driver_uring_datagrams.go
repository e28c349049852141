package core

import "kloop/uring"

// PrepareDatagrams implements Driver. Programs without datagrams never get here, and
// have no memory for them.
func (d *UringDriver) PrepareDatagrams() error {
	if d.datagrams != nil {
		return nil
	}
	buffers, err := newBufferSet(d.ring, datagramGroup, d.nextEpoch(), datagramsMax, datagramBufferSize, datagramsAtFirst)
	if err != nil {
		return err
	}
	d.datagrams = buffers
	return nil
}

// SendDatagramNow implements Driver.
func (d *UringDriver) SendDatagramNow(fd int, p, addr []byte) error {
	return uring.SendToNow(fd, p, addr)
}

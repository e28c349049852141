package core

import "golang.org/x/sys/unix"

// renewer is a Driver whose part in the kernel keeps the privileges of the process that made
// it. Renew has the next Attach make that anew if this process has others now.
type renewer interface{ Renew() }

// Enter is Attach for a caller that begins to poll. It also sees to it that nothing is done
// with the privileges that the process had when the driver was made, and has dropped
// since (CVE-2024-22017 was that). While it polls the caller must not drop any, or Leave first.
func (e *Engine) Enter() error {
	if driver, ok := e.driver.(renewer); ok && !e.closed {
		driver.Renew()
	}
	return e.Attach()
}

// privileges are what the kernel checks.
type privileges struct{ uid, gid int }

func presentPrivileges() privileges { return privileges{unix.Geteuid(), unix.Getegid()} }

// Renew implements renewer.
func (d *UringDriver) Renew() { d.stale = d.privileges != presentPrivileges() }

// Renew implements renewer for what is traced.
func (d *traceDriver) Renew() {
	if driver, ok := d.Driver.(renewer); ok {
		driver.Renew()
	}
}

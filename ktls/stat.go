package ktls

import (
	"bytes"
	"os"
	"strconv"
)

// KernelStat holds the counters of /proc/net/tls_stat by their names, which
// Documentation/networking/tls.rst explains. They are of the network namespace.
type KernelStat map[string]uint64

// Names of counters.
const (
	StatTXSoftware   = "TlsTxSw"     // directions given to the kernel so far, whose CPU works
	StatRXSoftware   = "TlsRxSw"     // likewise
	StatTXDevice     = "TlsTxDevice" // whose NIC works
	StatRXDevice     = "TlsRxDevice" // likewise
	StatDecryptError = "TlsDecryptError"
)

const statPath = "/proc/net/tls_stat"

// ReadKernelStat reads the counters. A kernel without TLS, or whose module has
// not been loaded yet, has no such file: os.ErrNotExist.
func ReadKernelStat() (KernelStat, error) {
	p, err := os.ReadFile(statPath)
	if err != nil {
		return nil, err
	}
	return ParseKernelStat(p)
}

// ParseKernelStat reads lines of a name and a number.
func ParseKernelStat(p []byte) (KernelStat, error) {
	stat := KernelStat{}
	for line := range bytes.Lines(p) {
		fields := bytes.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 {
			return nil, &UseError{Reason: statPath + ": a line is not a name and a number"}
		}
		n, err := strconv.ParseUint(string(fields[1]), 10, 64)
		if err != nil {
			return nil, &UseError{Reason: statPath + ": " + strconv.Quote(string(fields[1])) + " is no counter"}
		}
		stat[string(fields[0])] = n
	}
	return stat, nil
}

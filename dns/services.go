package dns

import (
	"strconv"
	"strings"
)

// service is a name of services(5) and a protocol.
type service struct{ name, protocol string }

// servicePort is a port and a protocol.
type servicePort struct {
	port     uint16
	protocol string
}

// servicesFile is what services(5) says.
type servicesFile struct {
	ports map[service]uint16
	names map[servicePort]string
}

// parseServices reads the text of a services file. Of two lines that say the same the first
// counts.
func parseServices(text string) *servicesFile {
	s := &servicesFile{ports: map[service]uint16{}, names: map[servicePort]string{}}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		number, protocol, ok := strings.Cut(fields[1], "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if !ok || err != nil {
			continue
		}
		at := servicePort{uint16(port), protocol}
		if _, there := s.names[at]; !there {
			s.names[at] = fields[0]
		}
		for _, name := range append(fields[2:], fields[0]) {
			key := service{name, protocol}
			if _, there := s.ports[key]; !there {
				s.ports[key] = uint16(port)
			}
		}
	}
	return s
}

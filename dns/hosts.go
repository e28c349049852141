package dns

import (
	"net/netip"
	"strings"
)

// host is a line of a hosts file.
type host struct {
	ip    netip.Addr
	names []string // the canonical one first, as they are written
}

// hostsFile is what hosts(5) says, in its order.
type hostsFile struct {
	byName map[string][]*host // lower case
	byIP   map[netip.Addr]*host
}

// parseHosts reads the text of a hosts file. Lines that make no sense are left out.
func parseHosts(text string) *hostsFile {
	h := &hostsFile{byName: map[string][]*host{}, byIP: map[netip.Addr]*host{}}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		ip, err := netip.ParseAddr(fields[0])
		if err != nil || ip.Zone() != "" {
			continue
		}
		h.add(&host{ip: ip, names: fields[1:]})
	}
	return h
}

func (h *hostsFile) add(line *host) {
	if h.byIP[line.ip] == nil {
		h.byIP[line.ip] = line
	}
	for _, name := range line.names {
		key := hostKey(name)
		if lines := h.byName[key]; len(lines) > 0 && lines[len(lines)-1] == line {
			continue // named twice in one line
		}
		h.byName[key] = append(h.byName[key], line)
	}
}

// hostKey is how names are compared: the case of letters does not count.
func hostKey(name string) string { return strings.ToLower(name) }

// find answers the lines that name has, in the file's order.
func (h *hostsFile) find(name string) []*host { return h.byName[hostKey(name)] }

// names answers the names of an address, the canonical one first, or nil.
func (h *hostsFile) names(ip netip.Addr) []string {
	if line := h.byIP[ip.WithZone("")]; line != nil {
		return line.names
	}
	return nil
}

// parseHostConf says whether host.conf(5) has a name's addresses taken from all its lines
// ("multi on") and not from the first alone, where one family is asked for.
func parseHostConf(text string) (multi bool) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "multi" {
			multi = fields[1] == "on"
		}
	}
	return multi
}

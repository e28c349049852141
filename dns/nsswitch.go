package dns

import (
	"os"
	"slices"
	"strings"
)

// Outcomes of a source, as nsswitch.conf(5) names them.
type nssStatus uint8

const (
	nssSuccess nssStatus = iota
	nssNotFound
	nssUnavailable
	nssTryAgain
	nssStatuses
)

var nssNames = map[string]nssStatus{"success": nssSuccess, "notfound": nssNotFound, "unavail": nssUnavailable, "tryagain": nssTryAgain}

// nssSource is a source of names, and for which outcomes the next one is not asked.
type nssSource struct {
	name string
	ends [nssStatuses]bool
}

// nsswitch is what nsswitch.conf(5) says about hosts and services.
type nsswitch struct {
	hosts []nssSource // those that are ours: "files" and "dns"
	// foreignHosts and foreignServices name what is not ours; "": nothing is.
	foreignHosts, foreignServices string
}

// servicesDBs are what the source "db" reads; without one it knows nothing.
var servicesDBs = []string{"/var/lib/misc/services.db", "/var/db/services.db"}

// parseNSSwitch reads the text of an nsswitch.conf.
func parseNSSwitch(text string) nsswitch {
	lines := map[string]string{"hosts": "files dns", "services": "files"}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if database, rest, found := strings.Cut(line, ":"); found {
			lines[strings.ToLower(strings.TrimSpace(database))] = rest
		}
	}
	var n nsswitch
	n.hosts, n.foreignHosts = parseSources(lines["hosts"], func(name string) bool { return name == "files" || name == "dns" })
	_, n.foreignServices = parseSources(lines["services"], func(name string) bool {
		return name == "files" || name == "db" && !slices.ContainsFunc(servicesDBs, exists)
	})
	return n
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// parseSources reads a line's sources. foreign is the first thing in it that is not ours.
func parseSources(line string, ours func(name string) bool) (sources []nssSource, foreign string) {
	// Actions may stand close to a source's name, and have spaces inside.
	line = strings.ToLower(strings.NewReplacer("[", " [ ", "]", " ] ").Replace(line))
	inside := false
	for _, word := range strings.Fields(line) {
		switch {
		case word == "[":
			inside = true
		case word == "]":
			inside = false
		case inside && len(sources) > 0 && sources[len(sources)-1].act(word):
		case inside:
			foreign = firstOf(foreign, "["+word+"]")
		case ours(word):
			sources = append(sources, nssSource{name: word, ends: [nssStatuses]bool{nssSuccess: true}})
		default:
			foreign = firstOf(foreign, word)
			sources = append(sources, nssSource{name: word})
		}
	}
	return slices.DeleteFunc(sources, func(s nssSource) bool { return !ours(s.name) }), foreign
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// act reads an action: STATUS=return, STATUS=continue, or with ! for all but STATUS. It
// answers false for what this package does not do.
func (s *nssSource) act(action string) bool {
	name, do, _ := strings.Cut(action, "=")
	name, others := strings.CutPrefix(name, "!")
	which, known := nssNames[name]
	if !known || do != "return" && do != "continue" {
		return false
	}
	for status := range nssStatuses {
		if (status == which) != others {
			s.ends[status] = do == "return"
		}
	}
	return s.ends[nssSuccess] // to go on after a success is to merge what two sources say
}

// NeedsLibc says which source of nsswitch.conf(5) libc knows and this package does not: host
// names and services must be looked up by libc then. "": none.
func (r *Resolver) NeedsLibc() (hosts, services string) {
	n := r.nsswitch.now()
	return n.foreignHosts, n.foreignServices
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
	"tailscale.com/net/netcheck"
	"tailscale.com/net/netmon"
	"tailscale.com/net/stun"
	"tailscale.com/tailcfg"
	"tailscale.com/types/logger"

	"tunn/interop/derp/ends"
)

func init() {
	add(udp, "netcheck_measures_by_udp", netcheckUDP)
	add("", "netcheck_measures_by_https_where_udp_is_blocked", netcheckHTTPS)
	add(udp, "stun_answers_only_what_it_must", stunExact)
	add("", "a_derp_map_is_parsed", derpMap)
}

// gauge is what the server counts under the original's name, where the test knows how to ask.
func (t *T) gauge(name string) (int, bool) {
	if t.S.Kind != "derper" {
		return 0, false
	}
	c, err := ends.DialTLS(t.S, nil)
	t.Must(err, "connecting")
	defer c.Close()
	_, err = fmt.Fprint(c, "GET /debug/varz HTTP/1.0\r\nHost: derp\r\n\r\n")
	t.Must(err, "asking")
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n := 0
			_, err := fmt.Sscan(value, &n)
			t.Must(err, "%q", lines.Text())
			return n, true
		}
	}
	t.Fail("no %s in /debug/varz", name)
	return 0, false
}

func (t *T) report(change func(*tailcfg.DERPNode)) *netcheck.Report {
	region := t.S.Region()
	change(region.Nodes[0])
	dm := &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{900: region}}
	c := &netcheck.Client{NetMon: netmon.NewStatic(), Logf: logger.Discard, SkipExternalNetwork: true}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	t.Must(c.Standalone(ctx, t.S.Host+":0"), "netcheck")
	r, err := c.GetReport(ctx, dm, nil)
	t.Must(err, "report")
	t.note("us", r.RegionLatency[900].Microseconds())
	t.Check(r.RegionLatency[900] > 0, "no latency: %+v", r)
	t.Check(r.PreferredDERP == 900, "home is %d", r.PreferredDERP)
	return r
}

func netcheckUDP(t *T) {
	r := t.report(func(*tailcfg.DERPNode) {})
	t.Check(r.UDP && r.IPv4 && r.GlobalV4.IsValid(), "UDP %v, IPv4 %v, seen as %v", r.UDP, r.IPv4, r.GlobalV4)
	t.Check(r.GlobalV4.Addr().IsLoopback(), "seen as %v", r.GlobalV4)
}

func netcheckHTTPS(t *T) {
	r := t.report(func(n *tailcfg.DERPNode) { n.STUNPort = -1 })
	t.Check(!r.UDP, "UDP, though there is no STUN")
}

func stunExact(t *T) {
	c, err := net.Dial("udp", net.JoinHostPort(t.S.Host, fmt.Sprint(t.S.STUN)))
	t.Must(err, "socket")
	defer c.Close()
	id := stun.NewTxID()
	good := stun.Request(id)
	flip := func(at int) []byte { b := append([]byte{}, good...); b[at] ^= 1; return b }
	for _, b := range [][]byte{{}, []byte("hello"), good[:19], good[:20], good[:len(good)-1], flip(1), flip(4), flip(24), flip(len(good) - 1),
		append(append([]byte{}, good...), 0, 0, 0, 0)} {
		_, err := c.Write(b)
		t.Must(err, "sending")
	}
	_, err = c.Write(good)
	t.Must(err, "sending")
	c.SetReadDeadline(time.Now().Add(ends.Limit))
	b := make([]byte, 2000)
	n, err := c.Read(b)
	t.Must(err, "answer")
	got, at, err := stun.ParseResponse(b[:n])
	t.Must(err, "answer %x", b[:n])
	t.Check(got == id, "the first answer is to another datagram than the only good one")
	t.Check(at == netip.MustParseAddrPort(c.LocalAddr().String()), "seen as %v, and is %v", at, c.LocalAddr())
	t.Check(n == 32 && string(b[20:24]) == "\x00\x20\x00\x08", "%x", b[:n])
}

// derpMap parses the example as tailscaled does (JSON) and as headscale does (YAML, by the names in lower case).
func derpMap(t *T) {
	example := os.Getenv("TUNN_DERP_MAP") // without .json and .yaml
	b, err := os.ReadFile(example + ".json")
	t.Must(err, "TUNN_DERP_MAP")
	var dm, fromYAML tailcfg.DERPMap
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	t.Must(dec.Decode(&dm), "%s.json", example)
	text, err := os.ReadFile(example + ".yaml")
	t.Must(err, "TUNN_DERP_MAP")
	lines := yaml.NewDecoder(bytes.NewReader(text))
	lines.KnownFields(true)
	t.Must(lines.Decode(&fromYAML), "%s.yaml", example)
	t.Check(reflect.DeepEqual(dm, fromYAML), "the two say different things: %+v, %+v", dm, fromYAML)
	t.Check(len(dm.Regions) > 0, "no regions")
	names := map[string]bool{}
	for id, r := range dm.Regions {
		t.Check(r.RegionID == id && r.RegionCode != "" && r.RegionName != "" && len(r.Nodes) > 0, "region %d: %+v", id, r)
		t.Check(id >= 900 && id <= 999, "region %d is not among those for users", id)
		for _, n := range r.Nodes {
			t.Check(n.Name != "" && !names[n.Name] && n.RegionID == id && n.HostName != "", "node %+v", n)
			names[n.Name] = true
			if n.IPv4 != "" && n.IPv4 != "none" {
				a, err := netip.ParseAddr(n.IPv4)
				t.Check(err == nil && a.Is4(), "IPv4 %q", n.IPv4)
			}
			if n.IPv6 != "" && n.IPv6 != "none" {
				a, err := netip.ParseAddr(n.IPv6)
				t.Check(err == nil && a.Is6(), "IPv6 %q", n.IPv6)
			}
			if pin, ok := strings.CutPrefix(n.CertName, "sha256-raw:"); ok {
				t.Check(len(pin) == 64 && pin == strings.ToLower(pin), "pin %q", pin)
			}
		}
	}
	out, _ := json.Marshal(dm)
	t.note("map", json.RawMessage(out))
}

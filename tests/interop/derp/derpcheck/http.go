package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/coder/websocket"
	"tailscale.com/types/key"

	"tunn/interop/derp/ends"
)

func init() {
	add("", "http_upgrade_required", upgradeRequired)
	add("", "http_101_is_exact_and_in_one_record_with_server_key", exact101)
	add("", "http_upgrades_of_every_kind_of_client", upgrades)
	add("", "http_probe_paths", probePaths)
	add("", "http_generate_204", func(t *T) { t.generate204(t.tls()) })
	add("", "http_pages", pages)
	add("", "http_host_may_be_empty_and_not_missing", hosts)
	add("", "alpn", alpn)
	add("", "http2_has_all_but_derp", http2)
	add("", "websocket_handshake", wsHandshake)
	add("", "websocket_message_boundaries_mean_nothing", wsBoundaries)
	add(port80, "http_port_80", plainHTTP)
}

type web struct {
	net.Conn
	r *bufio.Reader
	t *T
}

func (t *T) tls() *web {
	c, err := ends.DialTLS(t.S, nil)
	t.Must(err, "connecting")
	t.closers = append(t.closers, func() { c.Close() })
	return &web{c, bufio.NewReader(c), t}
}

type answer struct {
	status string
	head   map[string]string
	body   string
}

func (w *web) ask(request string) answer {
	status, head, body, err := ends.HTTP(w, w.r, request)
	w.t.Must(err, "%q", strings.SplitN(request, "\r\n", 2)[0])
	return answer{status, head, body}
}

func get(path string, lines ...string) string { return ask("GET", path, lines...) }

func ask(method, path string, lines ...string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: derp\r\n%s\r\n", method, path, strings.Join(append(lines, ""), "\r\n"))
}

func (t *T) is(a answer, code int, body string) {
	t.Check(strings.HasPrefix(a.status, fmt.Sprintf("HTTP/1.1 %d ", code)), "%q where %d was due", a.status, code)
	t.Check(a.body == body, "body %q", a.body)
}

func (t *T) isError(a answer, code int, text string) {
	t.is(a, code, text+"\n")
	t.Check(a.head["content-type"] == "text/plain; charset=utf-8" && a.head["x-content-type-options"] == "nosniff", "head %v", a.head)
}

func upgradeRequired(t *T) {
	for _, lines := range [][]string{nil, {"Upgrade: h2c"}, {"Upgrade: derpx", "Connection: Upgrade"}, {"Upgrade: "},
		{"Derp-Fast-Start: 1"}, {"Sec-WebSocket-Protocol: derp"}} {
		t.isError(t.tls().ask(get("/derp", lines...)), 426, "DERP requires connection upgrade")
	}
	w := t.tls() // and the connection goes on
	t.isError(w.ask(get("/derp")), 426, "DERP requires connection upgrade")
	t.is(w.ask(get("/derp/probe")), 200, "")
}

func (t *T) skip101(r *ends.Raw) error {
	for {
		line, err := r.R.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err
		}
	}
}

func exact101(t *T) {
	r := t.raw(key.NodePrivate{})
	_, err := io.WriteString(r, ends.UpgradeRequest)
	t.Must(err, "asking")
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Version: 2\r\nDerp-Public-Key: " +
		r.Server.UntypedHexString() + "\r\n\r\n"
	want := head + string(ends.FrameBytes(ends.ServerKey, ends.Magic, r.Server.AppendTo(nil)))
	b := make([]byte, 65536)
	n, err := r.TLS.Read(b) // a record at most
	t.Must(err, "reading")
	t.Check(string(b[:n]) == want, "the first record is %q", b[:n])
	t.Must(r.Send(ends.ClientInfo, r.Info(plain)), "ClientInfo")
	t.Must(r.Info2(), "ServerInfo")
}

func upgrades(t *T) {
	for name, request := range map[string]string{
		"Tailscale without meta certificate": ends.UpgradeRequest,
		"any case":                           get("/derp", "UPGRADE: dErP", "connection: upgrade"),
		"no Connection":                      get("/derp", "Upgrade: DERP"),
		"an old client":                      get("/derp", "Upgrade: WebSocket", "Connection: Upgrade"),
		"esp_wireguard":                      "GET /derp HTTP/1.1\r\nHost: derp:443\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
		"tailscale-rs":                       "POST /derp HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: DERP\r\ncontent-length: 0\r\n\r\n",
		"a query":                            get("/derp?x=1", "Upgrade: DERP"),
		"Fast-Start of another value":        get("/derp", "Upgrade: DERP", "Derp-Fast-Start: yes"),
		"Fast-Start and WebSocket":           get("/derp", "Upgrade: websocket", "Derp-Fast-Start: 1"),
		"an ideal node":                      get("/derp", "Upgrade: DERP", "Ideal-Node: 900b"),
		"an absolute target":                 "GET https://derp/derp HTTP/1.1\r\nHost: derp\r\nUpgrade: DERP\r\n\r\n",
	} {
		r := t.raw(key.NodePrivate{})
		_, err := io.WriteString(r, request)
		t.Must(err, "%s: asking", name)
		if !strings.Contains(request, "Fast-Start: 1") {
			status, err := r.R.ReadString('\n')
			t.Must(err, "%s", name)
			t.Check(status == "HTTP/1.1 101 Switching Protocols\r\n", "%s: %q", name, status)
			t.Must(t.skip101(r), "%s: 101", name)
		}
		t.Must(r.Greeting(), "%s: greeting", name)
		info := plain
		if name == "tailscale-rs" {
			info = `{"can_ack_pings":false,"is_prober":false,"mesh_key":"none","version":2}`
		}
		t.Must(r.Send(ends.ClientInfo, r.Info(info)), "%s: ClientInfo", name)
		t.Must(r.Info2(), "%s: ServerInfo", name)
		before, err := r.Alive()
		t.Must(err, "%s", name)
		t.Check(len(before) == 0, "%s: frames %x", name, before)
	}
}

func probePaths(t *T) {
	w := t.tls()
	for _, path := range []string{"/derp/probe", "/derp/latency-check", "/derp/latency-check?t=1"} {
		for _, method := range []string{"GET", "HEAD", "GET"} {
			a := w.ask(ask(method, path)) // on one connection
			t.is(a, 200, "")
			t.Check(a.head["access-control-allow-origin"] == "*", "head %v", a.head)
			t.Check(method == "HEAD" || a.head["content-length"] == "0", "head %v", a.head)
		}
		for _, method := range []string{"POST", "PUT", "OPTIONS"} {
			a := t.tls().ask(ask(method, path, "Content-Length: 0"))
			t.isError(a, 405, "bogus probe method")
		}
	}
}

const noCache = "no-cache, no-store, must-revalidate, no-transform, max-age=0"

func (t *T) generate204(w *web) {
	for _, path := range []string{"/generate_204", "/generate_204?t=1700000000"} {
		for challenge, ok := range map[string]bool{"": false, "input": true, "ts_derp99b.tailscale.com": true, "ts_1.2.3.4": true, "ts_2001:db8::1": true,
			"with space": false, "with%": false, "b\xc3\xa4d": false, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false} {
			lines := []string{}
			if challenge != "" {
				lines = []string{"X-Tailscale-Challenge: " + challenge}
			}
			a := w.ask(get(path, lines...))
			t.is(a, 204, "")
			want := ""
			if ok {
				want = "response " + challenge
			}
			t.Check(a.head["x-tailscale-response"] == want, "challenge %q, response %q", challenge, a.head["x-tailscale-response"])
			t.Check(a.head["cache-control"] == noCache, "head %v", a.head)
		}
	}
	for _, method := range []string{"POST", "HEAD", "PUT"} {
		a := w.ask(ask(method, "/generate_204", "X-Tailscale-Challenge: x", "Content-Length: 0"))
		t.is(a, 204, "")
		t.Check(a.head["x-tailscale-response"] == "response x", "head %v", a.head)
	}
}

func (t *T) browser(a answer) {
	for name, want := range map[string]string{"strict-transport-security": "max-age=63072000; includeSubDomains", "x-frame-options": "DENY",
		"x-content-type-options": "nosniff", "content-security-policy": "default-src 'self'; frame-ancestors 'none'; form-action 'self'; " +
			"base-uri 'self'; block-all-mixed-content; object-src 'none'"} {
		t.Check(a.head[name] == want, "%s: %q", name, a.head[name])
	}
}

func pages(t *T) {
	w := t.tls()
	a := w.ask(get("/robots.txt"))
	t.is(a, 200, "User-agent: *\nDisallow: /\n")
	t.browser(a)
	home := w.ask(get("/"))
	t.Check(strings.HasPrefix(home.status, "HTTP/1.1 200 ") && strings.Contains(home.body, "DERP"), "%s %q", home.status, home.body)
	t.Check(home.head["content-type"] == "text/html; charset=utf-8", "head %v", home.head)
	t.browser(home)
	for _, path := range []string{"/derp/", "/no/such/page", "/index.html"} {
		a := w.ask(get(path))
		t.Check(a.status == home.status && a.body == home.body, "%s is another page: %s", path, a.status)
	}
	a = t.tls().ask(get("/bootstrap-dns"))
	t.is(a, 200, "")
	t.Check(a.head["content-type"] == "application/json" && a.head["connection"] == "close", "head %v", a.head)
	t.browser(a)
	a = t.tls().ask(get("/bootstrap-dns?q=login.tailscale.com"))
	t.is(a, 200, "")
	a = t.tls().ask("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
	t.note("connect", a.status)
	t.Check(strings.HasPrefix(a.status, "HTTP/1.1 403 "), "CONNECT: %s", a.status)
}

func hosts(t *T) {
	t.is(t.tls().ask("GET /derp/probe HTTP/1.1\r\nHost: \r\n\r\n"), 200, "")
	t.is(t.tls().ask("GET /derp/probe HTTP/1.1\r\nHost: someone.else:1\r\n\r\n"), 200, "")
	a := t.tls().ask("GET /derp/probe HTTP/1.1\r\n\r\n")
	t.Check(strings.HasPrefix(a.status, "HTTP/1.1 400 "), "without Host: %s", a.status)
	a = t.tls().ask("GET /derp/probe HTTP/1.0\r\n\r\n")
	t.Check(strings.Contains(a.status, " 200 "), "HTTP/1.0: %s", a.status)
}

func alpn(t *T) {
	agreed := func(offer ...string) (string, error) {
		c, err := ends.DialTLS(t.S, &tls.Config{NextProtos: offer})
		if err != nil {
			return "", err
		}
		defer c.Close()
		return c.ConnectionState().NegotiatedProtocol, nil
	}
	for offer, want := range map[string]string{"": "", "http/1.1": "http/1.1", "h2": "h2", "http/1.1 spdy/3": "http/1.1"} {
		got, err := agreed(strings.Fields(offer)...)
		t.Must(err, "offering %q", offer)
		t.Check(got == want, "offered %q, agreed on %q", offer, got)
	}
	both, err := agreed("h2", "http/1.1")
	t.Must(err, "offering both")
	t.note("h2_and_http/1.1", both)
	_, err = agreed("nonsense")
	t.Check(err != nil && strings.Contains(err.Error(), "no application protocol"), "offering nonsense: %v", err)
	for _, name := range []string{"", "derp.example", t.S.Host} { // whatever name is asked for
		c, err := ends.DialTLS(t.S, &tls.Config{ServerName: name})
		t.Must(err, "name %q", name)
		c.Close()
	}
	c, err := ends.DialTLS(t.S, &tls.Config{MaxVersion: tls.VersionTLS12})
	t.Must(err, "TLS 1.2")
	t.metaCertificate(c.ConnectionState().PeerCertificates, t.Raw(plain).Server)
	c.Close()
	_, err = ends.DialTLS(t.S, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	t.Check(err != nil, "TLS 1.1 is accepted")
}

func http2(t *T) {
	tr := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(_ context.Context, _, _ string) (net.Conn, error) {
		return ends.DialTLS(t.S, &tls.Config{NextProtos: []string{"h2"}})
	}}
	defer tr.CloseIdleConnections()
	for path, want := range map[string]struct {
		code int
		body string
	}{"/derp": {426, "DERP requires connection upgrade\n"}, "/derp/probe": {200, ""}, "/derp/latency-check": {200, ""},
		"/robots.txt": {200, "User-agent: *\nDisallow: /\n"}, "/generate_204": {204, ""}} {
		req, _ := http.NewRequest("GET", "https://derp"+path, nil)
		a, err := tr.RoundTrip(req)
		t.Must(err, "%s", path)
		body, err := io.ReadAll(a.Body)
		t.Must(err, "%s", path)
		t.Check(a.ProtoMajor == 2 && a.StatusCode == want.code && string(body) == want.body, "%s: %s %s %q", path, a.Proto, a.Status, body)
	}
}

const wsKey = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="

func wsHandshake(t *T) {
	good := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", wsKey, "Sec-WebSocket-Protocol: derp"}
	without := func(skip string, extra ...string) (lines []string) {
		for _, l := range good {
			if !strings.HasPrefix(l, skip) {
				lines = append(lines, l)
			}
		}
		return append(lines, extra...)
	}
	a := t.tls().ask(get("/derp", without("nothing", "Origin: https://anyone.example", "Sec-WebSocket-Extensions: permessage-deflate")...))
	t.is(a, 101, "")
	t.Check(strings.EqualFold(a.head["upgrade"], "websocket") && strings.EqualFold(a.head["connection"], "upgrade") &&
		a.head["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" && a.head["sec-websocket-protocol"] == "derp", "head %v", a.head)
	_, compressed := a.head["sec-websocket-extensions"]
	t.Check(!compressed, "it agreed to an extension")
	a = t.tls().ask(get("/derp", without("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: chat, derp")...))
	t.Check(strings.HasPrefix(a.status, "HTTP/1.1 101 ") && a.head["sec-websocket-protocol"] == "derp", "%s %v", a.status, a.head)
	for what, c := range map[string]struct {
		request string
		code    int
	}{"POST": {ask("POST", "/derp", without("nothing", "Content-Length: 0")...), 405}, "no Connection": {get("/derp", without("Connection")...), 426},
		"version 8":  {get("/derp", without("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8")...), 400},
		"no version": {get("/derp", without("Sec-WebSocket-Version")...), 400}, "no key": {get("/derp", without("Sec-WebSocket-Key")...), 400},
		"a short key": {get("/derp", without("Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAA")...), 400}} {
		a := t.tls().ask(c.request)
		t.Check(strings.HasPrefix(a.status, fmt.Sprintf("HTTP/1.1 %d ", c.code)), "%s: %s", what, a.status)
		t.Check(what != "version 8" || a.head["sec-websocket-version"] == "13", "%s: %v", what, a.head)
	}
	// a name that only contains the letters is none of ours
	c, _ := t.ws("xderp")
	_, _, err := c.Read(context.Background())
	t.Check(websocket.CloseStatus(err) == websocket.StatusPolicyViolation, "xderp: %v", err)
	c, _ = t.ws("derp")
	_, _, err = c.Read(context.Background())
	t.Must(err, "ServerKey")
	t.Must(c.Write(context.Background(), websocket.MessageText, []byte("text")), "text")
	for err == nil {
		_, _, err = c.Read(context.Background())
	}
	t.note("text", int(websocket.CloseStatus(err)))
}

// ws is a WebSocket without DERP on it.
func (t *T) ws(protocol string) (*websocket.Conn, *http.Response) {
	hc := &http.Client{Transport: &http.Transport{DialTLSContext: func(_ context.Context, _, _ string) (net.Conn, error) {
		return ends.DialTLS(t.S, nil)
	}}}
	c, a, err := websocket.Dial(context.Background(), "https://derp/derp", &websocket.DialOptions{HTTPClient: hc, Subprotocols: []string{protocol}})
	t.Must(err, "WebSocket with %q", protocol)
	t.closers = append(t.closers, func() { c.CloseNow() })
	return c, a
}

func wsBoundaries(t *T) {
	c, _ := t.ws("derp")
	ctx := context.Background()
	nc := websocket.NetConn(ctx, c, websocket.MessageBinary)
	r := &ends.Raw{Conn: nc, R: bufio.NewReader(nc), Key: key.NewNode()}
	r.Pub = r.Key.Public()
	t.Must(r.Greeting(), "greeting")
	info := ends.FrameBytes(ends.ClientInfo, r.Info(plain))
	for i := range info { // half a frame, and less
		t.Must(c.Write(ctx, websocket.MessageBinary, info[i:i+1]), "a byte")
	}
	t.Must(r.Info2(), "ServerInfo")
	many := []byte{}
	for i := range 5 { // many frames
		many = append(many, ends.FrameBytes(ends.SendPacket, r.Pub.AppendTo(nil), data(1000, i))...)
	}
	t.Must(c.Write(ctx, websocket.MessageBinary, many), "five packets")
	for i := range 5 {
		kind, b, err := r.Read1()
		t.Must(err, "packet %d", i)
		t.Check(kind == ends.RecvPacket && string(b[32:]) == string(data(1000, i)), "packet %d: type %#x", i, kind)
	}
	t.Must(c.Write(ctx, websocket.MessageBinary, nil), "an empty message")
	_, err := r.Alive()
	t.Must(err, "after an empty message")
	t.Must(c.Close(websocket.StatusNormalClosure, ""), "closing")
}

func plainHTTP(t *T) {
	dial := func() *web {
		c, err := net.Dial("tcp", net.JoinHostPort(t.S.Host, fmt.Sprint(t.S.HTTP)))
		t.Must(err, "connecting")
		t.closers = append(t.closers, func() { c.Close() })
		return &web{c, bufio.NewReader(c), t}
	}
	t.generate204(dial())
	a := dial().ask(get("/some/page?x=1"))
	t.Check(strings.HasPrefix(a.status, "HTTP/1.1 302 ") && a.head["location"] == "https://derp/some/page?x=1", "%s %v", a.status, a.head)
	a = dial().ask(ask("POST", "/some/page", "Content-Length: 0"))
	t.Check(strings.HasPrefix(a.status, "HTTP/1.1 400 ") && strings.Contains(a.body, "Use HTTPS"), "%s %q", a.status, a.body)
}

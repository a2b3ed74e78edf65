package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strings"
	"time"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/envknob"
	"tailscale.com/types/key"

	"tunn/interop/derp/ends"
)

func init() {
	add("", "handshake_with_fast_start", withFastStart)
	add("", "handshake_without_fast_start", withoutFastStart)
	add("", "handshake_by_url_and_system_roots", byURL)
	add("", "five_connections_of_one_key_have_one_server_key", fiveConnections)
	add("", "ping_is_answered_and_a_burst_of_100_is_survived", pings)
	add(slow, "keepalive_within_66_s_idle_or_busy", keepalive)
	add(slow, "who_says_nothing_is_cut_after_10_s", silent)
}

// metaCertificate is what a chain must end with.
func (t *T) metaCertificate(chain []*x509.Certificate, server key.NodePublic) {
	last := chain[len(chain)-1]
	t.Check(last.Subject.CommonName == "derpkey"+server.UntypedHexString(), "the last certificate is %q", last.Subject)
	t.Check(last.Subject.String() == last.Issuer.String(), "issuer %q", last.Issuer)
	t.Check(last.SerialNumber.Int64() == 2, "serial %v", last.SerialNumber)
	t.Check(last.Version == 3, "version %d", last.Version)
	for _, c := range chain[:len(chain)-1] {
		t.Check(!strings.HasPrefix(c.Subject.CommonName, "derpkey"), "two meta certificates")
	}
	basic := asn1.ObjectIdentifier{2, 5, 29, 19}
	t.Check(len(last.Extensions) == 1 && last.Extensions[0].Id.Equal(basic) && last.Extensions[0].Critical && string(last.Extensions[0].Value) == "0\x00",
		"extensions %+v", last.Extensions)
	t.Check(len(last.SubjectKeyId) == 0 && len(last.AuthorityKeyId) == 0, "it has key identifiers")
	_, ok := last.PublicKey.(ed25519.PublicKey)
	t.Check(ok, "its key is %T", last.PublicKey)
	t.Must(last.CheckSignature(last.SignatureAlgorithm, last.RawTBSCertificate, last.Signature), "its signature")
	now := time.Now()
	t.Check(now.Sub(last.NotBefore) > 29*24*time.Hour && last.NotAfter.Sub(now) > 29*24*time.Hour, "valid %v to %v", last.NotBefore, last.NotAfter)
	t.note("meta_bytes", len(last.Raw))
}

func (t *T) handshake(o ends.Options, version uint16) {
	p := t.Peer(o)
	state, ok := p.C.TLSConnectionState()
	t.Check(ok && state.Version == version, "TLS %#x", state.Version)
	t.Check(state.NegotiatedProtocol == "", "it agreed on %q with a client that offers nothing", state.NegotiatedProtocol)
	t.metaCertificate(state.PeerCertificates, p.C.ServerPublicKey())
	t.note("server_key", p.C.ServerPublicKey().UntypedHexString())
	t.Must(p.C.Ping(context.Background()), "ping")
	t.Quiet(p)
}

// The client leaves out the answer when it has TLS 1.3 and finds the meta certificate.
func withFastStart(t *T) { t.handshake(ends.Options{}, tls.VersionTLS13) }

func withoutFastStart(t *T) {
	t.handshake(ends.Options{Change: func(c *derphttp.Client) { c.TLSConfig = &tls.Config{MaxVersion: tls.VersionTLS12} }}, tls.VersionTLS12)
}

func (t *T) url() string { return fmt.Sprintf("https://%s/derp", t.S.Addr()) }

func byURL(t *T) { t.handshake(ends.Options{URL: t.url()}, tls.VersionTLS13) }

// webSocket makes every client from now on speak WebSocket.
func webSocket() { envknob.Setenv("TS_DEBUG_DERP_WS_CLIENT", "true") }

// As `tailscale debug derp` does it.
func fiveConnections(t *T) {
	k := key.NewNode()
	server := key.NodePublic{}
	for range 5 {
		p := t.Peer(ends.Options{Key: k})
		t.Check(server.IsZero() || server == p.C.ServerPublicKey(), "two server keys")
		server = p.C.ServerPublicKey()
	}
}

func pings(t *T) {
	p := t.Peer(ends.Options{})
	for range 3 {
		t.Must(p.C.Ping(context.Background()), "ping")
	}
	for i := range 100 {
		t.Must(p.C.SendPing([8]byte{9, byte(i)}), "ping %d of a burst", i)
	}
	answered := 0
	for end := time.Now().Add(ends.Limit); ; { // one answer waits at a time, and a ping meanwhile is not answered
		t.Must(p.C.SendPing([8]byte{10}), "ping after the burst")
		m, err := p.Next(100 * time.Millisecond)
		t.Check(time.Now().Before(end) && (err == nil || err == ends.ErrLate), "after the burst: %v", err)
		if m == any(derp.PongMessage{10}) {
			break
		}
		answered++
	}
	t.Check(answered > 0, "none of 100 was answered")
	t.note("answered", answered)
	r := t.Raw(plain)
	t.Must(r.Send(ends.Ping, []byte{1, 2, 3, 4, 5, 6, 7, 42}), "ping")
	kind, b, err := r.ReadWithin(time.Second)
	t.Must(err, "pong within 1 s")
	t.Check(kind == ends.Pong && string(b) == "\x01\x02\x03\x04\x05\x06\x07\x2a", "type %#x, %x", kind, b)
}

// One connection hears nothing else, the other a packet of its own twice a second.
func keepalive(t *T) {
	idle, busy := t.Raw(plain), t.Raw(plain)
	start := time.Now()
	stop := make(chan bool)
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Millisecond):
				busy.To(busy.Pub, []byte("busy"))
			}
		}
	}()
	for name, r := range map[string]*ends.Raw{"idle_s": idle, "busy_s": busy} {
		for {
			kind, b, err := r.ReadWithin(66*time.Second - time.Since(start))
			t.Must(err, "a keepalive within 66 s")
			if kind == ends.KeepAlive {
				t.Check(len(b) == 0, "it has %d bytes", len(b))
				break
			}
		}
		t.Check(time.Since(start) > 55*time.Second, "a keepalive after %v", time.Since(start))
		t.note(name, time.Since(start).Seconds())
	}
}

func silent(t *T) {
	c, err := ends.DialTLS(t.S, nil)
	t.Must(err, "connecting")
	r := ends.NewRaw(c, key.NodePrivate{})
	_, err = r.Write([]byte(ends.FastRequest))
	t.Must(err, "asking")
	t.Must(r.Greeting(), "greeting")
	start := time.Now()
	came, err := r.AwaitEnd(14 * time.Second)
	t.Must(err, "silence")
	t.Check(len(came) == 0, "frames came: %x", came)
	t.Check(time.Since(start) > 8*time.Second, "cut after %v", time.Since(start))
	t.note("seconds", time.Since(start).Seconds())
}

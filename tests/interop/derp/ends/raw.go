package ends

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"go4.org/mem"
	"tailscale.com/types/key"
)

// Frame types, as on the wire.
const (
	ServerKey     = 0x01
	ClientInfo    = 0x02
	ServerInfo    = 0x03
	SendPacket    = 0x04
	RecvPacket    = 0x05
	KeepAlive     = 0x06
	NotePreferred = 0x07
	PeerGone      = 0x08
	PeerPresent   = 0x09
	ForwardPacket = 0x0a
	WatchConns    = 0x10
	ClosePeer     = 0x11
	Ping          = 0x12
	Pong          = 0x13
)

// Magic begins ServerKey.
var Magic = []byte{'D', 'E', 'R', 'P', 0xf0, 0x9f, 0x94, 0x91}

// UpgradeRequest is what the real client sends where it has no meta certificate.
const UpgradeRequest = "GET /derp HTTP/1.1\r\nHost: derp\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n"

// FastRequest is the same with Fast-Start.
const FastRequest = "GET /derp HTTP/1.1\r\nHost: derp\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\n" +
	"Derp-Fast-Start: 1\r\nUpgrade: DERP\r\n\r\n"

// Limit of everything that must happen.
const Limit = 10 * time.Second

// Raw is a TLS connection that says frames as they are told.
type Raw struct {
	net.Conn
	TLS    *tls.Conn
	R      *bufio.Reader
	Key    key.NodePrivate
	Pub    key.NodePublic
	Server key.NodePublic // once ServerKey came
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

// DialTLS connects and checks the pin. Of conf only what a case needs is filled in.
func DialTLS(s Server, conf *tls.Config) (*tls.Conn, error) {
	d := net.Dialer{Timeout: Limit}
	nc, err := d.Dial("tcp", s.Addr())
	if err != nil {
		return nil, err
	}
	return TLSOver(nc, s, conf)
}

// TLSOver does the same over a connection that there is.
func TLSOver(nc net.Conn, s Server, conf *tls.Config) (*tls.Conn, error) {
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.InsecureSkipVerify = true // the pin is looked at below
	nc.SetDeadline(time.Now().Add(Limit))
	c := tls.Client(nc, conf)
	if err := c.Handshake(); err != nil {
		nc.Close()
		return nil, err
	}
	sum := sha256.Sum256(c.ConnectionState().PeerCertificates[0].Raw)
	if hex.EncodeToString(sum[:]) != s.Pin {
		nc.Close()
		return nil, fmt.Errorf("the leaf is not the pinned one")
	}
	return c, nil
}

// NewRaw begins a conversation on a connection.
func NewRaw(c *tls.Conn, k key.NodePrivate) *Raw {
	if k.IsZero() {
		k = key.NewNode()
	}
	return &Raw{Conn: c, TLS: c, R: bufio.NewReader(c), Key: k, Pub: k.Public()}
}

// Join is the whole of a handshake with Fast-Start and this ClientInfo; the first frame must be ServerInfo.
func Join(s Server, k key.NodePrivate, info string) (*Raw, error) {
	c, err := DialTLS(s, nil)
	if err != nil {
		return nil, err
	}
	r := NewRaw(c, k)
	if err := r.join(info); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Raw) join(info string) error {
	if _, err := io.WriteString(r, FastRequest); err != nil {
		return err
	}
	if err := r.Greeting(); err != nil {
		return err
	}
	if err := r.Send(ClientInfo, r.Info(info)); err != nil {
		return err
	}
	return r.Info2()
}

// Greeting reads ServerKey, which must be exactly as long as it is today.
func (r *Raw) Greeting() error {
	t, b, err := r.Read1()
	if err != nil {
		return err
	}
	if t != ServerKey || len(b) != 40 || string(b[:8]) != string(Magic) {
		return fmt.Errorf("no ServerKey of 40 bytes: type %#x, %d bytes", t, len(b))
	}
	r.Server = key.NodePublicFromRaw32(mem.B(b[8:]))
	return nil
}

// Info is the payload of ClientInfo for this JSON.
func (r *Raw) Info(json string) []byte {
	return append(r.Pub.AppendTo(nil), r.Key.SealTo(r.Server, []byte(json))...)
}

// Info2 reads ServerInfo, which must say version 2 and nothing else.
func (r *Raw) Info2() error {
	t, b, err := r.Read1()
	if err != nil {
		return err
	}
	if t != ServerInfo {
		return fmt.Errorf("type %#x came where ServerInfo was due", t)
	}
	text, ok := r.Key.OpenFrom(r.Server, b)
	if !ok {
		return errors.New("the box of ServerInfo does not open")
	}
	if string(text) != `{"version":2}` {
		return fmt.Errorf("ServerInfo says %s", text)
	}
	return nil
}

// FrameBytes are a frame's bytes on the wire.
func FrameBytes(t byte, payload ...[]byte) []byte {
	n := 0
	for _, p := range payload {
		n += len(p)
	}
	b := make([]byte, 5, 5+n)
	b[0] = t
	binary.BigEndian.PutUint32(b[1:], uint32(n))
	for _, p := range payload {
		b = append(b, p...)
	}
	return b
}

// Send writes one frame.
func (r *Raw) Send(t byte, payload ...[]byte) error {
	r.SetWriteDeadline(time.Now().Add(Limit))
	_, err := r.Write(FrameBytes(t, payload...))
	return err
}

// To sends a packet.
func (r *Raw) To(dst key.NodePublic, pkt []byte) error {
	return r.Send(SendPacket, dst.AppendTo(nil), pkt)
}

// Read1 reads one frame, within the limit.
func (r *Raw) Read1() (byte, []byte, error) { return r.ReadWithin(Limit) }

// ReadWithin reads one frame.
func (r *Raw) ReadWithin(limit time.Duration) (byte, []byte, error) {
	r.SetReadDeadline(time.Now().Add(limit))
	var head [5]byte
	if _, err := io.ReadFull(r.R, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > 1<<20 {
		return 0, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r.R, b)
	return head[0], b, err
}

// AwaitEnd reads until the server ends the connection; what came before is given back.
func (r *Raw) AwaitEnd(limit time.Duration) (types []byte, err error) {
	end := time.Now().Add(limit)
	for {
		t, _, err := r.ReadWithin(time.Until(end))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return types, fmt.Errorf("the connection is still there after %v", limit)
		}
		if err != nil {
			return types, nil
		}
		types = append(types, t)
	}
}

// Alive sends a ping and reads up to its pong; the frames before it are given back.
func (r *Raw) Alive() (before []byte, err error) {
	mark := [8]byte{0, 'a', 'l', 'i', 'v', 'e', 0xff, byte(time.Now().UnixNano())}
	if err := r.Send(Ping, mark[:]); err != nil {
		return nil, err
	}
	for {
		t, b, err := r.Read1()
		if err != nil {
			return before, err
		}
		if t == Pong && string(b) == string(mark[:]) {
			return before, nil
		}
		before = append(before, t)
	}
}

// HTTP sends a request as it is and gives the head of the answer, line by line, and the rest that its length names.
func HTTP(c net.Conn, r *bufio.Reader, request string) (status string, head map[string]string, body string, err error) {
	c.SetDeadline(time.Now().Add(Limit))
	if _, err = io.WriteString(c, request); err != nil {
		return
	}
	if status, err = r.ReadString('\n'); err != nil {
		return
	}
	status, head = strings.TrimSpace(status), map[string]string{}
	for {
		var line string
		if line, err = r.ReadString('\n'); err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		head[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	var n int
	fmt.Sscan(head["content-length"], &n)
	if strings.HasPrefix(request, "HEAD ") {
		n = 0
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return status, head, string(b), err
}

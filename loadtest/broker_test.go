package loadtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sluice/pkg/eventlog/eventlogtest"
)

// broker is a real Kafka broker. One that may be broken is ours alone.
type broker struct {
	t       *testing.T
	brokers string
	port    int // 0: it is shared, and nobody may touch it
}

const deploy = "../deploy/kafka/"

// sharedBroker gives one that others use too.
func sharedBroker(t *testing.T) *broker {
	t.Helper()
	return &broker{t: t, brokers: strings.Join(eventlogtest.Brokers(t), ",")}
}

// ownBroker starts a broker that the test may break, where there is Java to run it;
// else it gives a shared one.
func ownBroker(t *testing.T) *broker {
	t.Helper()
	if _, err := exec.LookPath("java"); err != nil || os.Getenv("SLUICE_TEST_NO_KAFKA") == "1" {
		t.Log("no java: the broker is shared and stays whole")
		return sharedBroker(t)
	}
	b := &broker{t: t, port: freePair(t)}
	b.brokers = fmt.Sprintf("127.0.0.1:%d", b.port)
	t.Cleanup(func() {
		b.Signal(syscall.SIGCONT)
		b.script("down")
	})
	if out, err := b.script("up"); err != nil {
		t.Fatalf("start the broker: %v: %s", err, out)
	}
	return b
}

// freePair finds two free ports in a row, in a place where another process that
// looks at the same time doesn't look first.
func freePair(t *testing.T) int {
	const first, pairs = 20000, 2000
	for i := range pairs {
		port := first + 2*((os.Getpid()+i)%pairs)
		if free(port) && free(port+1) {
			return port
		}
	}
	t.Fatalf("no two free ports from %d to %d", first, first+2*pairs-1)
	return 0
}

func free(port int) bool {
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

func (b *broker) script(name string) ([]byte, error) {
	cmd := exec.Command(deploy + name)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SLUICE_KAFKA_PORT=%d", b.port))
	return cmd.CombinedOutput()
}

// mayBreak says whether the broker is ours.
func (b *broker) mayBreak() bool { return b.port != 0 }

func (b *broker) String() string { return "broker" }

// Signal sends one to the broker's process.
func (b *broker) Signal(s syscall.Signal) {
	cache, err := os.UserCacheDir()
	if err != nil {
		b.t.Error(err)
		return
	}
	text, err := os.ReadFile(filepath.Join(cache, "sluice-kafka", fmt.Sprintf("run-%d", b.port), "pid"))
	if err != nil {
		b.t.Errorf("find the broker: %v", err)
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 2 {
		b.t.Errorf("the broker's pid is %q", text)
		return
	}
	syscall.Kill(pid, s)
}

// Revive starts the broker again after a kill, on what it has kept. One that was
// killed in the middle of its start may not start the first time.
func (b *broker) Revive(context.Context) (err error) {
	for range 3 {
		var out []byte
		if out, err = b.script("up"); err == nil {
			return nil
		}
		err = fmt.Errorf("start the broker again: %w: %s", err, out)
	}
	return err
}

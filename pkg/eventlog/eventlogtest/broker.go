package eventlogtest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/kafka"
)

// The environment that says which broker tests use.
const (
	brokersVar = "SLUICE_TEST_BROKERS"  // host:port,…: these
	noKafkaVar = "SLUICE_TEST_NO_KAFKA" // 1: tests that need one are skipped where none can be had
	image      = "apache/kafka:4.3.1"
)

// broker finds a broker once for all tests of a process.
var broker = sync.OnceValues(findBroker)

// Brokers gives the addresses of a real broker: those of SLUICE_TEST_BROKERS,
// else of a container where docker answers, else of one that deploy/kafka/up
// starts, which goes on running. The test fails where none can be had, or, with
// SLUICE_TEST_NO_KAFKA=1, is skipped and says so.
func Brokers(t testing.TB) []string {
	t.Helper()
	found, err := broker()
	if err == nil {
		return found
	}
	if os.Getenv(noKafkaVar) == "1" {
		fmt.Fprintf(os.Stderr, "\n!!! %s is SKIPPED, nothing of the Kafka side is tested: %s=1 and %v\n\n", t.Name(), noKafkaVar, err)
		t.Skipf("no broker: %v", err)
	}
	t.Fatalf("no broker to test on: %v\nset %s=host:port, start docker, or see to what deploy/kafka/up needs; "+
		"%s=1 skips what needs one", err, brokersVar, noKafkaVar)
	return nil
}

func findBroker() ([]string, error) {
	if env := os.Getenv(brokersVar); env != "" {
		return strings.Split(env, ","), nil
	}
	fromDocker, errDocker := containerBroker()
	if errDocker == nil {
		return fromDocker, nil
	}
	fromScript, errScript := scriptBroker()
	if errScript == nil {
		return fromScript, nil
	}
	return nil, errors.Join(fmt.Errorf("docker: %w", errDocker), fmt.Errorf("deploy/kafka/up: %w", errScript))
}

// containerBroker starts one in docker, which removes it when the tests end.
func containerBroker() (_ []string, err error) {
	// testcontainers panics where it finds no docker at all.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return nil, err
	}
	defer provider.Close()
	if err := provider.Health(ctx); err != nil {
		return nil, err
	}
	ctx, cancel = context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	// The address that it tells clients must be right outside, so the port outside
	// is known before the start.
	_, err = testcontainers.Run(ctx, image,
		testcontainers.WithExposedPorts(fmt.Sprintf("%d:9092/tcp", port)),
		testcontainers.WithEnv(map[string]string{
			"KAFKA_NODE_ID":                                          "1",
			"KAFKA_PROCESS_ROLES":                                    "broker,controller",
			"KAFKA_LISTENERS":                                        "PLAINTEXT://:9092,CONTROLLER://:9093",
			"KAFKA_ADVERTISED_LISTENERS":                             fmt.Sprintf("PLAINTEXT://127.0.0.1:%d", port),
			"KAFKA_CONTROLLER_LISTENER_NAMES":                        "CONTROLLER",
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":                   "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":                         "1@localhost:9093",
			"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                        "false",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":                 "1",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR":         "1",
			"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":                    "1",
			"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
			"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR":            "1",
			"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":                 "0",
		}),
		testcontainers.WithWaitStrategy(wait.ForLog("Kafka Server started")),
	)
	if err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("127.0.0.1:%d", port)}, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// scriptBroker runs deploy/kafka/up of this repository.
func scriptBroker() ([]string, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	var progress bytes.Buffer
	up := exec.Command(filepath.Join(root, "deploy", "kafka", "up"))
	up.Stderr = &progress
	out, err := up.Output()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, progress.Bytes())
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if brokers, ok := strings.CutPrefix(lines.Text(), brokersVar+"="); ok {
			return strings.Split(brokers, ","), nil
		}
	}
	return nil, fmt.Errorf("it doesn't say where the broker is: %q", out)
}

// repository finds the directory of go.mod above the test's.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the test's directory")
		}
		dir = up
	}
}

// prefixes holds what stands before the topics of each test.
var prefixes struct {
	sync.Mutex
	of map[testing.TB]string
}

// Kafka opens a log on a real broker, under a prefix of the test's own; a second
// one of the same test has the same topics. When the test ends it is closed, and
// the topics are deleted.
func Kafka(t testing.TB, topics ...eventlog.Topic) eventlog.Log {
	t.Helper()
	brokers := Brokers(t)
	prefix := testPrefix(t, brokers)
	l, err := kafka.Open(t.Context(), kafka.Config{
		Brokers: brokers,
		Prefix:  prefix,
		Topics:  topics,
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatalf("the log on Kafka: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("closing the log on Kafka: %v", err)
		}
	})
	return l
}

func testPrefix(t testing.TB, brokers []string) string {
	prefixes.Lock()
	defer prefixes.Unlock()
	if prefix, ok := prefixes.of[t]; ok {
		return prefix
	}
	if prefixes.of == nil {
		prefixes.of = make(map[testing.TB]string)
	}
	prefix := "test-" + strings.ToLower(rand.Text()[:10]) + "."
	prefixes.of[t] = prefix
	t.Cleanup(func() {
		prefixes.Lock()
		delete(prefixes.of, t)
		prefixes.Unlock()
		if err := deleteTopics(brokers, prefix); err != nil {
			t.Logf("the topics of %s stay behind: %v", prefix, err)
		}
	})
	return prefix
}

// deleteTopics removes all topics that begin with the prefix.
func deleteTopics(brokers []string, prefix string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	admin := kadm.NewClient(client)
	all, err := admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	var names []string
	for name := range all {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	gone, err := admin.DeleteTopics(ctx, names...)
	return errors.Join(err, gone.Error())
}

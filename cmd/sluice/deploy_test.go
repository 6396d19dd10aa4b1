package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"sluice/pkg/attempts/attemptstest"
	"sluice/pkg/dialect/all"
	"sluice/pkg/event"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
)

// deployed is what a process is started with where it is deployed, in place of what
// is there: a broker, files, ports.
type deployed struct {
	dir       string            // in place of /
	settings  map[string]string // that all have here
	image     map[string]string // ENV of the image
	command   string            // its CMD
	processes []*process
	key       string
	postgres  string // its URL; empty: none was started
}

func newDeployed(t *testing.T) *deployed {
	d := &deployed{dir: t.TempDir(), image: make(map[string]string), key: string(key.New(event.Sandbox))}
	d.settings = map[string]string{"SLUICE_PREFIX": fmt.Sprintf("test%d.", time.Now().UnixNano()), "SLUICE_BOOTSTRAP_KEY": d.key}
	text := string(readDeploy(t, "Dockerfile"))
	for _, m := range regexp.MustCompile(`(SLUICE_\w+)=(\S+)`).FindAllStringSubmatch(text, -1) {
		d.image[m[1]] = m[2]
	}
	d.command = regexp.MustCompile(`CMD \["(\w+)"\]\n*$`).FindStringSubmatch(text)[1]
	return d
}

func readDeploy(t *testing.T, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// file writes what is mounted at a path, and gives where.
func (d *deployed) file(t *testing.T, path string, text []byte) string {
	t.Helper()
	path = filepath.Join(d.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var someSecrets = []byte(strings.Repeat("0123456789abcdef", 4))

// start starts a process as it is deployed, and gives its ports: from those of the
// image to those that it has here.
func (d *deployed) start(t *testing.T, args []string, env map[string]string) (p *process, ports map[string]string) {
	t.Helper()
	p = &process{t: t, args: args, address: freeAddress(t), ops: freeAddress(t), key: d.key}
	ports = map[string]string{d.image["SLUICE_LISTEN"]: p.address, d.image["SLUICE_OPS"]: p.ops}
	all := maps.Clone(d.image)
	maps.Copy(all, env)
	maps.Copy(all, d.settings)
	all["SLUICE_LISTEN"], all["SLUICE_OPS"] = ports[all["SLUICE_LISTEN"]], ports[all["SLUICE_OPS"]]
	all["SLUICE_DATA"] = filepath.Join(d.dir, fmt.Sprint(len(d.processes)), all["SLUICE_DATA"])
	if err := os.MkdirAll(all["SLUICE_DATA"], 0o700); err != nil {
		t.Fatal(err)
	}
	p.env = []string{}
	for name, value := range all {
		p.env = append(p.env, name+"="+value)
	}
	p.start()
	t.Cleanup(p.kill)
	d.processes = append(d.processes, p)
	return p, ports
}

// stop ends all as their supervisors do.
func (d *deployed) stop(t *testing.T, within time.Duration) {
	t.Helper()
	for _, p := range d.processes {
		p.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range d.processes {
		killed := time.AfterFunc(within, func() { p.cmd.Process.Kill() })
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("%v ended within %v: %v: %s", p.args, within, err, p.messages)
		}
		killed.Stop()
	}
}

// publish publishes an event at the one that has the API.
func (d *deployed) publish(t *testing.T) {
	t.Helper()
	if err := d.processes[0].call(t.Context(), "POST", "/v1/events", "application/json", []byte(`{"type":"rfq.created","data":{}}`), 202, nil); err != nil {
		t.Error(err)
	}
}

// database gives the PostgreSQL that is here, for one that is deployed: its address must
// be of a service that lets these in. All processes have the same.
func (d *deployed) database(t *testing.T, address string, service func(host string) map[string]string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	if env := service(u.Hostname()); u.User.Username() != env["POSTGRES_USER"] || password != env["POSTGRES_PASSWORD"] || strings.TrimPrefix(u.Path, "/") != env["POSTGRES_DB"] {
		t.Errorf("%s is no database of %s: %v", address, u.Hostname(), env)
	}
	if d.postgres == "" {
		d.postgres = attemptstest.Postgres(t)
	}
	return d.postgres
}

// holdDatabase holds that deliveries are listed from PostgreSQL: one shows up, and
// nobody keeps an index of its own.
func (d *deployed) holdDatabase(t *testing.T) {
	t.Helper()
	api, made := d.processes[0], webhook{}
	if err := api.call(t.Context(), "POST", webhooksPath, "application/json", []byte(`{"url":"https://example.invalid","events":["rfq.*"]}`), 201, &made); err != nil {
		t.Fatal(err)
	}
	d.publish(t)
	eventually(t, time.Minute, func() error {
		var list struct{ Data []struct{ EventID string } }
		err := api.call(t.Context(), "GET", webhooksPath+"/"+made.ID+"/deliveries", "", nil, 200, &list)
		if err == nil && len(list.Data) != 1 {
			err = fmt.Errorf("%d deliveries are listed", len(list.Data))
		}
		return err
	})
	if found, err := filepath.Glob(filepath.Join(d.dir, "*", d.image["SLUICE_DATA"], attemptsDir)); err != nil || len(found) > 0 {
		t.Errorf("an index is kept in %v, beside the database: %v", found, err)
	}
}

// TestCompose starts what compose would, of sluice.
func TestCompose(t *testing.T) {
	t.Parallel()
	t.Run("kafka", func(t *testing.T) {
		var compose struct {
			Services map[string]struct {
				Image       string
				Environment map[string]string
			}
		}
		// What a service says itself stands beside what it has from another, in its place.
		if err := yaml.UnmarshalWithOptions(readDeploy(t, "compose", "compose.yaml"), &compose, yaml.AllowDuplicateMapKey()); err != nil {
			t.Fatal(err)
		}
		d := newDeployed(t)
		for _, name := range slices.Sorted(maps.Keys(compose.Services)) { // api is the first
			s := compose.Services[name]
			if s.Image != "sluice" {
				continue
			}
			env := maps.Clone(s.Environment)
			env["SLUICE_ATTEMPTS_DB"] = d.database(t, env["SLUICE_ATTEMPTS_DB"], func(host string) map[string]string { return compose.Services[host].Environment })
			env["SLUICE_BROKERS"] = strings.Join(eventlogtest.Brokers(t), ",")
			env["SLUICE_SECRETS_KEY_FILE"] = d.file(t, env["SLUICE_SECRETS_KEY_FILE"], someSecrets)
			if strings.HasPrefix(env["SLUICE_ADMIN_TOKEN"], "${SLUICE_ADMIN_TOKEN:?") {
				env["SLUICE_ADMIN_TOKEN"] = "0123456789abcdef0123456789abcdef"
			}
			d.start(t, []string{d.command}, env)
		}
		if len(d.processes) != 5 {
			t.Fatalf("%d processes were started", len(d.processes))
		}
		d.publish(t)
		d.holdDatabase(t)
		d.stop(t, 40*time.Second) // stop_grace_period
	})
}

// probe is how Kubernetes asks a process for something.
type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

// manifest is what of a deployment's has to do with its process.
type manifest struct {
	Spec struct {
		Template struct {
			Spec struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []struct {
					Args []string
					Env  []struct {
						Name      string
						ValueFrom struct {
							Secret   struct{ Key string }      `yaml:"secretKeyRef"`
							Resource struct{ Resource string } `yaml:"resourceFieldRef"`
						} `yaml:"valueFrom"`
					}
					Ports []struct {
						Name          string
						ContainerPort int `yaml:"containerPort"`
					}
					Startup   probe `yaml:"startupProbe"`
					Readiness probe `yaml:"readinessProbe"`
					Liveness  probe `yaml:"livenessProbe"`
					Mounts    []struct {
						Path string `yaml:"mountPath"`
					} `yaml:"volumeMounts"`
				}
			}
		}
	}
}

// TestKubernetes starts what Kubernetes would, asks it as the kubelet does, and holds
// the labels that alerts and the dashboard name against what the processes show.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	t.Run("kafka", func(t *testing.T) {
		var config struct{ Data map[string]string }
		if err := yaml.Unmarshal(readDeploy(t, "kubernetes", "config.yaml"), &config); err != nil {
			t.Fatal(err)
		}
		var settings map[string]any
		if err := yaml.Unmarshal([]byte(config.Data["sluice.yaml"]), &settings); err != nil {
			t.Fatal(err)
		}
		d := newDeployed(t)
		secrets := settings["secrets-key-file"].(string)
		settings["brokers"], settings["secrets-key-file"] = eventlogtest.Brokers(t), d.file(t, secrets, someSecrets)
		text, err := yaml.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		file := d.file(t, "/etc/sluice/sluice.yaml", text)
		for _, role := range []string{"api", "gateway", "dispatcher"} {
			var m manifest
			if err := yaml.NewDecoder(bytes.NewReader(readDeploy(t, "kubernetes", role+".yaml"))).Decode(&m); err != nil {
				t.Fatal(err)
			}
			c := m.Spec.Template.Spec.Containers[0]
			for _, path := range []string{"/etc/sluice/sluice.yaml", secrets, d.image["SLUICE_DATA"] + "/log"} {
				if !slices.ContainsFunc(c.Mounts, func(m struct {
					Path string `yaml:"mountPath"`
				}) bool {
					return strings.HasPrefix(path, m.Path+"/")
				}) {
					t.Errorf("%s: nothing is mounted where %s is", role, path)
				}
			}
			env := make(map[string]string)
			for _, e := range c.Env {
				switch from := e.ValueFrom; {
				case from.Resource.Resource == "requests.memory":
					env[e.Name] = strconv.Itoa(512 << 20)
				case from.Secret.Key == "SLUICE_ADMIN_TOKEN":
					env[e.Name] = "0123456789abcdef0123456789abcdef"
				case from.Secret.Key == "SLUICE_ATTEMPTS_DB":
					env[e.Name] = attemptstest.Postgres(t)
				default:
					t.Errorf("%s: nobody knows what %s is", role, e.Name)
				}
			}
			for i, arg := range c.Args {
				c.Args[i] = strings.Replace(arg, "/etc/sluice/sluice.yaml", file, 1)
			}
			_, ports := d.start(t, c.Args, env)
			named := make(map[string]string)
			for _, port := range c.Ports {
				named[port.Name] = ports[fmt.Sprintf(":%d", port.ContainerPort)]
			}
			for _, ask := range []probe{c.Startup, c.Readiness, c.Liveness} {
				resp, err := http.Get("http://" + named[ask.HTTPGet.Port] + ask.HTTPGet.Path)
				if err != nil {
					t.Errorf("%s: %+v: %v", role, ask, err)
					continue
				}
				if resp.Body.Close(); resp.StatusCode != http.StatusOK {
					t.Errorf("%s: %s: %s", role, ask.HTTPGet.Path, resp.Status)
				}
			}
		}
		d.publish(t)
		d.holdLabels(t)
		d.holdDatabase(t)
		d.stop(t, 40*time.Second) // less than terminationGracePeriodSeconds without preStop
	})
}

// TestIngress: what streams of any API are asked for by is sent to the gateways, which
// alone have them.
func TestIngress(t *testing.T) {
	var ingress struct {
		Spec struct {
			Rules []struct {
				HTTP struct {
					Paths []struct {
						Path    string
						Type    string `yaml:"pathType"`
						Backend struct{ Service struct{ Name string } }
					}
				}
			}
		}
	}
	if err := yaml.NewDecoder(bytes.NewReader(readDeploy(t, "kubernetes", "network.yaml"))).Decode(&ingress); err != nil {
		t.Fatal(err)
	}
	var routed, streams []string
	for _, p := range ingress.Spec.Rules[0].HTTP.Paths {
		if p.Type == "Exact" && p.Backend.Service.Name == "gateway" {
			routed = append(routed, p.Path)
		}
	}
	for _, d := range all.Dialects {
		if d.Stream != nil {
			streams = append(streams, d.Stream.Paths...)
		}
		if d.SSE != nil {
			streams = append(streams, d.SSE.Paths...)
		}
	}
	slices.Sort(routed)
	slices.Sort(streams)
	if streams = slices.Compact(streams); !slices.Equal(routed, streams) {
		t.Errorf("%q are sent to the gateways, and the streams are at %q", routed, streams)
	}
}

// holdLabels looks for what alerts and the dashboard choose series by, and group them
// by: a label that there isn't chooses nothing, and says nothing either.
func (d *deployed) holdLabels(t *testing.T) {
	t.Helper()
	var shown strings.Builder
	for _, p := range d.processes {
		resp, err := http.Get("http://" + p.ops + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		shown.Write(text)
	}
	wants := regexp.MustCompile(`(sluice_\w+)\{([^}]*)\}`)
	label := regexp.MustCompile(`(\w+)(=~?)\\?"([^"\\]*)`)
	held := 0
	for _, file := range [][]string{{"prometheus", "alerts.yaml"}, {"grafana", "sluice.json"}} {
		for _, m := range wants.FindAllStringSubmatch(string(readDeploy(t, file...)), -1) {
			series := regexp.MustCompile(`(?m)^`+m[1]+`(_bucket|_sum|_count)?\{.*$`).FindAllString(shown.String(), -1)
			if len(series) == 0 { // nothing has happened that it counts
				continue
			}
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				want := l[1] + `="`
				switch {
				case l[1] == "instance" || l[1] == "job": // Prometheus' own
					continue
				case l[2] == "=":
					want += l[3] + `"`
				}
				if held++; !slices.ContainsFunc(series, func(s string) bool { return strings.Contains(s, want) }) {
					t.Errorf("%s: %s has no %s: %v", file[1], m[1], want, series)
				}
			}
		}
	}
	if held == 0 {
		t.Error("no label was looked for")
	}
}

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ops is what operators see of a node, on a port of its own.
//
//	/healthz           the process is up
//	/readyz            200 when every part is ready, else 503; with a line for each part
//	/metrics           Prometheus
//	/debug/pprof/      profiles
//	/debug/ws-echo     with --debug-ws-echo: a WebSocket that says what it hears
//	/admin/v1/         orgs, keys; with the admin token
type ops struct {
	server *http.Server
	mux    *http.ServeMux               // what is added to it is served from then on
	admin  atomic.Pointer[http.Handler] // nil: not started yet
	said   atomic.Bool                  // somebody was told that it is ready

	mu    sync.Mutex
	parts []part
}

// part is something that must be ready before the node is.
type part struct {
	name  string
	check func(ctx context.Context) error // nil: ready; the error says why not
}

func newOps(metrics prometheus.Gatherer, roles roles) *ops {
	mux := http.NewServeMux()
	o := &ops{mux: mux}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", o.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	// Without pprof.Cmdline: a token given on the command line would be for everybody who reaches this port.
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/admin/", func(w http.ResponseWriter, r *http.Request) {
		if h := o.admin.Load(); h != nil {
			(*h).ServeHTTP(w, r)
			return
		}
		if !roles.has(roleAPI) {
			http.Error(w, fmt.Sprintf("the admin API is on processes with the role api; this one has %s", roles), http.StatusNotFound)
			return
		}
		http.Error(w, "still starting", http.StatusServiceUnavailable)
	})
	o.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	return o
}

// require adds a part.
func (o *ops) require(name string, check func(context.Context) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.parts = append(o.parts, part{name, check})
}

// notReady gives a line for each part that isn't ready; empty: all are.
func (o *ops) notReady(ctx context.Context) string {
	_, not := o.look(ctx)
	return not
}

// look asks every part; a line for each that is ready, and for each that isn't.
func (o *ops) look(ctx context.Context) (ready, not string) {
	o.mu.Lock()
	parts := o.parts
	o.mu.Unlock()
	var yes, no strings.Builder
	for _, p := range parts {
		if err := p.check(ctx); err != nil {
			fmt.Fprintf(&no, "%s: %v\n", p.name, err)
		} else {
			fmt.Fprintf(&yes, "%s: ready\n", p.name)
		}
	}
	return yes.String(), no.String()
}

func (o *ops) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	ready, not := o.look(ctx)
	if not != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		o.said.Store(true)
	}
	fmt.Fprint(w, not, ready)
}

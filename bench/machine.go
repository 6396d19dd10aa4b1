package bench

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// Machine is where a run was made, and of what. What can't be read is empty or 0.
type Machine struct {
	CPU        string  `json:"cpu"`        // its model
	Processors int     `json:"processors"` // that Go uses
	MemoryMB   int     `json:"memoryMB"`
	Kernel     string  `json:"kernel"`
	Go         string  `json:"go"` // and GOOS, GOARCH
	Commit     string  `json:"commit"`
	CPULimit   string  `json:"cpuLimit"`    // of the control group: microseconds of so many
	MemLimit   string  `json:"memoryLimit"` // of the control group, in bytes
	OpenFiles  uint64  `json:"openFiles"`   // that a process may have
	Load       float64 `json:"load"`        // runnable processes, the minute before
}

// ThisMachine reads what there is to know.
func ThisMachine() Machine {
	m := Machine{
		CPU: field("/proc/cpuinfo", "model name"), Processors: runtime.GOMAXPROCS(0), Kernel: first("/proc/sys/kernel/osrelease"),
		Go:       fmt.Sprintf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH),
		CPULimit: first("/sys/fs/cgroup/cpu.max"), MemLimit: first("/sys/fs/cgroup/memory.max"),
	}
	kb, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	if n, err := strconv.Atoi(kb); err == nil {
		m.MemoryMB = n / 1024
	}
	load, _, _ := strings.Cut(first("/proc/loadavg"), " ")
	m.Load, _ = strconv.ParseFloat(load, 64)
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		m.OpenFiles = files.Cur
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				m.Commit = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				m.Commit += ", with changes"
			}
		}
	}
	return m
}

// String is the machine in a line.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d processors, %d MB, Linux %s, %s, commit %s, load %.1f", cmp.Or(m.CPU, "unknown CPU"), m.Processors, m.MemoryMB, m.Kernel, m.Go,
		cmp.Or(m.Commit, "unknown"), m.Load)
}

func first(path string) string {
	text, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// field is what stands behind a name and a colon, the first time.
func field(path, name string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

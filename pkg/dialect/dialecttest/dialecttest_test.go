package dialecttest_test

import (
	"path/filepath"
	"testing"

	"sluice/pkg/dialect/all"
	"sluice/pkg/dialect/dialecttest"
)

func TestDialects(t *testing.T) {
	paths, owned := make(map[string]string), make(map[string]string)
	for _, d := range all.Dialects {
		t.Run(d.Name, func(t *testing.T) {
			dialecttest.Run(t, d, filepath.Join("..", d.Name, "testdata", "wire"))
		})
		for _, prefix := range d.Prefixes {
			if other := owned[prefix]; other != "" {
				t.Errorf("all below %s is %s's and %s's", prefix, other, d.Name)
			}
			owned[prefix] = d.Name
		}
		if d.Stream == nil {
			continue
		}
		for _, path := range d.Stream.Paths {
			if other := paths[path]; other != "" {
				t.Errorf("%s is %s's and %s's", path, other, d.Name)
			}
			paths[path] = d.Name
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"type":"subscribe","channels":["rfq.*"],"events":["a.b"],"corridors":["x"],"cursor":"c"}`))
	f.Add([]byte(`{"type":"auth","token":"sk_test_"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, d := range all.Dialects {
			if d.Stream == nil {
				continue
			}
			cmd, wrong := d.Stream.Decode(text)
			if (wrong == nil) == (cmd.Verb == 0) {
				t.Fatalf("%s: %+v, %v", d.Name, cmd, wrong)
			}
		}
	})
}

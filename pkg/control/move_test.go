package control

import (
	"reflect"
	"slices"
	"testing"
)

// A command that says something about places among events says it anew when it is
// brought into another log: whole numbers are places, but for those named here.
func TestMoverKnowsPlaces(t *testing.T) {
	counts := []string{"AddMissed.Count", "NewSecret.Overlap", "Progress.Done", "Progress.Total", "Progress.Delivered", "Progress.Failed", "Progress.Expired"}
	for op, make := range commands {
		cmd := make()
		_, moves := cmd.(mover)
		places(reflect.TypeOf(cmd).Elem(), func(name string) {
			if !moves && !slices.Contains(counts, name) {
				t.Errorf("%s has %s, and is brought into another log as it is: give it a method move, or name it here", op, name)
			}
		})
	}
}

// places names the members of a type, and of those it is made of, that may be places.
func places(typ reflect.Type, each func(name string)) {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		places(typ.Elem(), each)
	case reflect.Struct:
		if typ.PkgPath() == "time" {
			return
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Type.Kind() == reflect.Int64 && f.Type.PkgPath() != "time" {
				each(typ.Name() + "." + f.Name)
			} else {
				places(f.Type, each)
			}
		}
	}
}

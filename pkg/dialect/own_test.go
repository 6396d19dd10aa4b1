package dialect_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/key"
)

// numbered is a core of endpoints of two dialects: three of the first to one of the
// other, and in the end that one's only.
type numbered struct{ dialect.Core }

const numberOf = 40

func (numbered) endpoint(i int) *endpoint.Endpoint {
	name := "one"
	if i%4 == 3 || i > 20 {
		name = "other"
	}
	return &endpoint.Endpoint{ID: strconv.Itoa(i), Dialect: name}
}

func (n numbered) Endpoint(_ context.Context, _ *key.Principal, id string) (*endpoint.Endpoint, error) {
	i, err := strconv.Atoi(id)
	if err != nil || i >= numberOf {
		return nil, dialect.ErrNothing
	}
	return n.endpoint(i), nil
}

func (n numbered) Endpoints(_ context.Context, _ *key.Principal, cursor string, limit int) (page []*endpoint.Endpoint, next string, _ error) {
	i, _ := strconv.Atoi(cursor)
	for ; i < numberOf && len(page) < limit; i++ {
		page = append(page, n.endpoint(i))
	}
	if i < numberOf {
		next = strconv.Itoa(i)
	}
	return page, next, nil
}

// Pages of any size have every endpoint of the dialect once, and no other's.
func TestOwn(t *testing.T) {
	for limit := 1; limit <= numberOf+1; limit++ {
		var got []string
		routes := dialect.Own("other", []dialect.Route{{Serve: func(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
			page, next, err := core.Endpoints(ctx, &r.Principal, r.Query("cursor"), limit)
			if len(page) > limit || next != "" && len(page) < limit {
				t.Fatalf("a page of %d, limit %d, goes on at %q", len(page), limit, next)
			}
			for _, ep := range page {
				got = append(got, ep.ID)
			}
			return &dialect.Response{Body: []byte(next)}, err
		}}})
		for cursor, more := "", true; more; more = cursor != "" {
			r := &dialect.Request{Param: func(string) string { return "" }, Query: func(string) string { return cursor }}
			resp, err := routes[0].Serve(t.Context(), numbered{}, r)
			if err != nil {
				t.Fatal(err)
			}
			cursor = string(resp.Body)
		}
		var want []string
		for i := range numberOf {
			if ep := (numbered{}).endpoint(i); ep.Dialect == "other" {
				want = append(want, ep.ID)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("limit %d: %v", limit, got)
		}
	}
}

// An id of another dialect's doesn't exist, and the call isn't made.
func TestOwnIDs(t *testing.T) {
	served := ""
	routes := dialect.Own("other", []dialect.Route{{Serve: func(_ context.Context, _ dialect.Core, r *dialect.Request) (*dialect.Response, error) {
		served = r.Param("id")
		return &dialect.Response{}, nil
	}}})
	for id, mine := range map[string]bool{"3": true, "2": false, "99": false, "x": false} {
		served = ""
		_, err := routes[0].Serve(t.Context(), numbered{}, &dialect.Request{Param: func(string) string { return id }})
		if fmt.Sprint(served == id, errors.Is(err, dialect.ErrNothing)) != fmt.Sprint(mine, !mine) {
			t.Errorf("%s: served %q, %v", id, served, err)
		}
	}
}

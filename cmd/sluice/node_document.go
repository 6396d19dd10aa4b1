package main

import (
	_ "embed"
	"fmt"

	"sluice/gateway/web"
	"sluice/pkg/dialect/openapi"
)

// ownName is what the document of the calls that are no dialect's is served as.
const ownName = "sluice"

// ownWritten is what people are told of the calls that are no dialect's.
//
//go:embed openapi.json
var ownWritten []byte

// ownDocument makes the document of routes that are no dialect's.
func ownDocument(routes []web.Route) ([]byte, error) {
	calls := make([]openapi.Call, len(routes))
	for i, r := range routes {
		calls[i] = openapi.Call{Method: r.Method, Path: r.Path, Scope: r.Scope, Uncounted: r.Uncounted}
	}
	doc, err := openapi.Build(ownWritten, calls)
	if err != nil {
		return nil, fmt.Errorf("make document %s: %w", ownName, err)
	}
	return doc, nil
}

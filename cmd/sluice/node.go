package main

import (
	"context"
	"log/slog"
)

const adminTokenFile = "admin.token"

type nodeConfig struct {
	Listen, Ops, Data string
	Brokers           []string
	Prefix            string
	SecretsKeyFile    string
	AdminToken        string
	BootstrapKey      string
	HTTP              bool
	Private           prefixes
	Logger            *slog.Logger
}

type node struct{ PrintedKey string }

func startNode(ctx context.Context, cfg nodeConfig) (*node, error) { return &node{}, nil }
func (n *node) URL() string                                        { return "http://127.0.0.1:8080" }
func (n *node) OpsURL() string                                     { return "http://127.0.0.1:9090" }
func (n *node) AdminToken() string                                 { return "" }
func (n *node) Failed() <-chan error                               { return nil }
func (n *node) Stop(context.Context) error                         { return nil }

package dialect

import (
	"context"
	"time"

	"sluice/pkg/key"
)

// Accounts is what the core knows of people: users, who register an org and log in
// to it.
type Accounts interface {
	// Register makes an org on the smallest plan, its user, and a key for live. What is
	// wrong with a registration is told of email, password, name, org and slug.
	Register(ctx context.Context, r Registration) (*Account, error)
	// Login gives a session. Who isn't known, and whose password is wrong, are refused
	// alike. from is Request.From.
	Login(ctx context.Context, from, email string, password key.Password) (*Session, error)
	// Logout ends the session that the caller came with, and its streams: for calls of
	// Route.Session.
	Logout(ctx context.Context, p *key.Principal) error
}

// Registration is what an account is made of.
type Registration struct {
	Email    string
	Password key.Password
	Name     string // the person's; empty: none
	Org      string // its name
	Slug     string // a name for the org that no other has; empty: none
	Brand    string // the word that its key begins with
}

// Account is a user and their org.
type Account struct {
	User, Email, Name  string
	Org, OrgName, Slug string
	Key                *Key // of one that was made just now; else nil
}

// Session lets a user in until it ends. Its token is good wherever a key is; calls with
// it are in live, or where ?environment= says.
type Session struct {
	Account
	Token     key.Token
	ExpiresAt time.Time
}

// Cookie is the session that a browser is to bring with its calls from now on.
type Cookie struct {
	Token     key.Token // empty: none
	ExpiresAt time.Time
}

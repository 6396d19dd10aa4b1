package manage

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sluice/pkg/datadir"
)

// AdminTokenFile is where the admin token is kept, in the data directory.
const AdminTokenFile = "admin.token"

// LoadAdminToken gives the token of the admin API: the one given, or else the one
// in the data directory, which is made, of mode 0600, where there is none.
func LoadAdminToken(dataDir, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	path := filepath.Join(dataDir, AdminTokenFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		token := rand.Text()
		if err := datadir.Create(path, []byte(token+"\n")); err != nil {
			return "", fmt.Errorf("keep admin token: %w", err)
		}
		return token, nil
	}
	if err != nil {
		return "", fmt.Errorf("read admin token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("read admin token: %s is empty: delete it and a new one is made", path)
	}
	return token, nil
}

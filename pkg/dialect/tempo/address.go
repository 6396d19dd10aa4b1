package tempo

import (
	"encoding/hex"
	"slices"
	"strings"

	"golang.org/x/crypto/sha3"
)

// addressBytes are the bytes of an address.
const addressBytes = 20

// checkAddress says what is wrong with the text of an address; empty: nothing. One
// that mixes upper and lower case has a checksum in it, as EIP-55 says.
func checkAddress(text string) string {
	digits, found := strings.CutPrefix(text, "0x")
	if raw, err := hex.DecodeString(digits); !found || err != nil || len(raw) != addressBytes {
		return "must be an address, 0x and 40 hex digits"
	}
	mixed := strings.ToLower(digits) != digits && strings.ToUpper(digits) != digits
	if mixed && digits != checksummed(strings.ToLower(digits)) {
		return "has a checksum (EIP-55) that is wrong: a character may be mistyped; or send it in lower case"
	}
	return ""
}

// spellings gives the ways in which an address can be written rightly, each once, the
// one that was given first.
func spellings(text string) []string {
	lower := strings.ToLower(text[2:])
	all := []string{text}
	for _, digits := range []string{lower, checksummed(lower), strings.ToUpper(lower)} {
		if !slices.Contains(all, "0x"+digits) {
			all = append(all, "0x"+digits)
		}
	}
	return all
}

// checksummed writes a letter of an address, which is in lower case, as a capital
// where the digit in its place of the hash over the text is 8 or more.
func checksummed(lower string) string {
	hash := sha3.NewLegacyKeccak256()
	hash.Write([]byte(lower))
	sum := hex.EncodeToString(hash.Sum(nil))
	digits := []byte(lower)
	for i, c := range digits {
		if c >= 'a' && sum[i] >= '8' {
			digits[i] = c - 'a' + 'A'
		}
	}
	return string(digits)
}

// Package attempt makes one request and says how it ended.
package attempt

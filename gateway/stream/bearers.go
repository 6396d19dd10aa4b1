package stream

// bearers are the connections of one shard that came with the same key. When it is taken
// away nobody else is looked at, however many keys go at once.
type bearers struct {
	keyID string
	conns []*conn
}

// bear has the connection be one of the key's, and no other's; empty: of none.
func (s *shard) bear(c *conn, keyID string) {
	if b := c.bearers; b != nil {
		last := len(b.conns) - 1
		b.conns[c.inBearers] = b.conns[last]
		b.conns[c.inBearers].inBearers = c.inBearers
		b.conns[last] = nil
		if b.conns = b.conns[:last]; last == 0 {
			delete(s.bearers, b.keyID)
		}
		c.bearers = nil
	}
	if keyID == "" {
		return
	}
	b := s.bearers[keyID]
	if b == nil {
		b = &bearers{keyID: keyID}
		s.bearers[keyID] = b
	}
	c.bearers, c.inBearers = b, int32(len(b.conns))
	b.conns = append(b.conns, c)
}

// revoke ends the connections of a key that was taken away.
func (s *shard) revoke(keyID string) {
	if b := s.bearers[keyID]; b != nil {
		for _, c := range b.conns {
			c.end(&endRevoked, unauthorized(revoked))
		}
	}
}

const revoked = "the key was revoked"

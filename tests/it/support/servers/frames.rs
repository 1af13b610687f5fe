//! Counts messages in a stream of PostgreSQL's protocol.

/// One direction of a connection: a message is its type, a length that counts itself, and what it says.
pub struct Frames {
    side: Side,
    /// Type and length of the message that has begun, as far as they are there.
    head: Vec<u8>,
    /// What is left of it.
    left: usize,
    /// What a client sends first has no type.
    has_types: bool,
    /// The last message was a sync.
    synced: bool,
    /// How many that count were there whole.
    pub counted: usize,
}

#[derive(PartialEq)]
enum Side {
    Client,
    Server,
}

impl Frames {
    /// What a client asks: to begin, a query, or a sync; each gets one answer.
    pub fn asked() -> Self {
        Self::new(Side::Client)
    }

    /// What a server answers to each: that it is ready for the next.
    pub fn answered() -> Self {
        Self::new(Side::Server)
    }

    fn new(side: Side) -> Self {
        Self {
            has_types: side == Side::Server,
            side,
            head: Vec::with_capacity(5),
            left: 0,
            synced: false,
            counted: 0,
        }
    }

    /// Takes what came next.
    pub fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.take_byte(byte);
        }
    }

    fn take_byte(&mut self, byte: u8) {
        let head_len = 4 + usize::from(self.has_types);
        if self.head.len() < head_len {
            self.head.push(byte);
            // Asked for TLS before anything else, a server that has none answers this byte alone.
            if self.side == Side::Server && self.counted == 0 && self.head == b"N" {
                self.head.clear();
            }
            if self.head.len() == head_len {
                let len = self.head[head_len - 4..].try_into().expect("four bytes");
                self.left = (u32::from_be_bytes(len) as usize).saturating_sub(4);
                self.has_ended();
            }
        } else {
            self.left -= 1;
            self.has_ended();
        }
    }

    fn has_ended(&mut self) {
        if self.left > 0 {
            return;
        }
        let counts = match (self.has_types, &self.side) {
            // To ask for TLS takes eight bytes; to begin takes more.
            (false, _) => {
                self.has_types = self.head != [0, 0, 0, 8];
                self.has_types
            }
            (true, Side::Client) => matches!(self.head[0], b'Q' | b'S'),
            (true, Side::Server) => self.head[0] == b'Z',
        };
        self.counted += usize::from(counts);
        if self.has_types && self.side == Side::Client {
            // A server that is being given the records of a copy does not answer the sync before them.
            if self.synced && matches!(self.head.first(), Some(b'd' | b'c' | b'f')) {
                self.counted -= 1;
            }
            self.synced = self.head.first() == Some(&b'S');
        }
        self.head.clear();
    }
}

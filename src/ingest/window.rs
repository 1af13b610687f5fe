//! The bytes that were read and not yet consumed.

use std::io::{ErrorKind, Read};

use super::IngestError;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A stretch of the input: it grows at its end by [`fill`](Self::fill) and shrinks at its front by
/// [`consume`](Self::consume), so that a record lies in one piece and can be looked at again.
pub(super) struct Window<R> {
    reader: R,
    room: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    bytes: u64,
    max_bytes: Option<u64>,
}

impl<R> Window<R> {
    /// Room for the first read, in bytes; it doubles only for records that need it.
    pub(super) const FIRST_ROOM: usize = 128 * 1024;

    /// The room taken, in bytes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.room.len()
    }
}

impl<R: Read> Window<R> {
    /// Begins to read, after a byte order mark where there is one.
    pub(super) fn open(reader: R, max_bytes: Option<u64>) -> Result<Self, IngestError> {
        let mut window = Self {
            reader,
            room: vec![0; Self::FIRST_ROOM],
            start: 0,
            end: 0,
            ended: false,
            bytes: 0,
            max_bytes,
        };
        while !window.ended
            && window.held().len() < BYTE_ORDER_MARK.len()
            && BYTE_ORDER_MARK.starts_with(window.held())
        {
            window.fill()?;
        }
        if window.held().starts_with(BYTE_ORDER_MARK) {
            window.consume(BYTE_ORDER_MARK.len());
        }
        Ok(window)
    }

    /// The bytes read and not consumed.
    pub(super) fn held(&self) -> &[u8] {
        self.room.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether no more bytes will come.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// The bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the held bytes begin in the input.
    pub(super) fn offset(&self) -> u64 {
        self.bytes - self.held().len() as u64
    }

    /// Lets go of the first `count` held bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// Reads once; at the end of the input only [`ended`](Self::ended) changes.
    pub(super) fn fill(&mut self) -> Result<(), IngestError> {
        self.make_room();
        let free = self.room.get_mut(self.end..).unwrap_or_default();
        let count = loop {
            match self.reader.read(free) {
                Ok(count) => break count.min(free.len()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        };
        self.ended = count == 0;
        self.end += count;
        self.bytes += count as u64;
        match self.max_bytes {
            Some(limit) if self.bytes > limit => Err(IngestError::TooLarge { limit }),
            _ => Ok(()),
        }
    }

    /// Keeps at least half of the room free, so that moving costs less than reading.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let half = self.room.len() / 2;
        if self.room.len() - self.end >= half {
            return;
        }
        self.room.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end > half {
            self.room.resize(self.room.len() * 2, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(bytes: &[u8]) -> Window<&[u8]> {
        Window::open(bytes, None).expect("a slice can be read")
    }

    #[test]
    fn a_byte_order_mark_is_skipped_once() {
        assert_eq!(open(b"\xEF\xBB\xBFa").held(), b"a");
        assert_eq!(open(b"\xEF\xBB\xBF\xEF\xBB\xBFa").held(), b"\xEF\xBB\xBFa");
        assert_eq!(open(b"\xEF\xBBa").held(), b"\xEF\xBBa");
        assert_eq!(open(b"\xEF\xBB").held(), b"\xEF\xBB");
        assert_eq!(open(b"").held(), b"");
    }

    #[test]
    fn the_offset_counts_what_was_consumed() {
        let mut window = open(b"\xEF\xBB\xBFabc");
        assert_eq!((window.offset(), window.bytes()), (3, 6));
        window.consume(2);
        assert_eq!((window.offset(), window.held()), (5, &b"c"[..]));
        window.consume(99);
        assert_eq!(window.offset(), 6);
    }

    #[test]
    fn held_bytes_survive_every_fill() {
        let bytes: Vec<u8> = (0..3 * Window::<&[u8]>::FIRST_ROOM)
            .map(|i| (i % 251) as u8)
            .collect();
        let mut window = Window::open(bytes.as_slice(), None).expect("opens");
        window.consume(1000);
        while !window.ended() {
            window.fill().expect("reads");
        }
        assert_eq!(Some(window.held()), bytes.get(1000..));
    }

    #[test]
    fn an_interrupted_read_is_tried_again() {
        struct Interrupts(u8);
        impl Read for Interrupts {
            fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
                self.0 += 1;
                if self.0 == 1 {
                    return Err(ErrorKind::Interrupted.into());
                }
                Ok((&b"abc"[..]).read(room).unwrap_or(0))
            }
        }
        let window = Window::open(Interrupts(0), None).expect("reads on");
        assert_eq!(window.held(), b"abc");
    }

    #[test]
    fn one_byte_over_the_limit_is_refused() {
        assert!(Window::open(&b"abc"[..], Some(3)).is_ok());
        let refused = Window::open(&b"abcd"[..], Some(3)).err();
        assert!(matches!(refused, Some(IngestError::TooLarge { limit: 3 })));
    }
}

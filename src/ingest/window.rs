//! The bytes that were read and not yet consumed.

use std::io::Read;

use super::IngestError;
use super::input::Input;

/// A stretch of the input: it grows at its end by [`fill`](Self::fill) and shrinks at its front by
/// [`consume`](Self::consume), so that a record lies in one piece and can be looked at again.
pub(super) struct Window<R: Read> {
    input: Input<R>,
    room: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    consumed: u64,
}

impl<R: Read> Window<R> {
    /// Room for the first read, in bytes; it doubles only for records that need it.
    pub(super) const FIRST_ROOM: usize = 128 * 1024;

    /// The room taken, in bytes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.room.len()
    }

    /// Begins to read.
    pub(super) fn new(input: Input<R>) -> Self {
        Self {
            input,
            room: vec![0; Self::FIRST_ROOM],
            start: 0,
            end: 0,
            ended: false,
            consumed: 0,
        }
    }

    /// What it reads.
    pub(super) fn input(&self) -> &Input<R> {
        &self.input
    }

    /// The bytes read and not consumed.
    pub(super) fn held(&self) -> &[u8] {
        self.room.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether no more bytes will come.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Where the held bytes begin in the input's text.
    pub(super) fn offset(&self) -> u64 {
        self.consumed
    }

    /// Lets go of the first `count` held bytes.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.consumed += count as u64;
    }

    /// Reads once; at the end of the input only [`ended`](Self::ended) changes.
    pub(super) fn fill(&mut self) -> Result<(), IngestError> {
        self.make_room();
        let free = self.room.get_mut(self.end..).unwrap_or_default();
        let count = self.input.read(free)?;
        self.ended = count == 0;
        self.end += count;
        Ok(())
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
    use crate::ingest::Options;

    fn open(bytes: &[u8]) -> Window<&[u8]> {
        Window::new(Input::open(bytes, &Options::csv()).expect("a slice can be read"))
    }

    #[test]
    fn the_offset_counts_what_was_consumed() {
        let mut window = open(b"\xEF\xBB\xBFabc");
        while !window.ended() {
            window.fill().expect("reads");
        }
        assert_eq!((window.offset(), window.held()), (0, &b"abc"[..]));
        window.consume(2);
        assert_eq!((window.offset(), window.held()), (2, &b"c"[..]));
        window.consume(99);
        assert_eq!(window.offset(), 3);
    }

    #[test]
    fn held_bytes_survive_every_fill() {
        let bytes: Vec<u8> = (0..3 * Window::<&[u8]>::FIRST_ROOM)
            .map(|i| (i % 251) as u8)
            .collect();
        let mut window = open(&bytes);
        while window.held().len() < 1000 {
            window.fill().expect("reads");
        }
        window.consume(1000);
        while !window.ended() {
            window.fill().expect("reads");
        }
        assert_eq!(Some(window.held()), bytes.get(1000..));
    }
}

//! The text of an input: unpacked, without its byte order mark, in UTF-8.

use std::io::Read;

use super::encoding::Encoding;
use super::unpack::{self, Packing, Unpacked};
use super::{IngestError, Options};

/// What a sequence that cannot be decoded becomes: no byte of UTF-8, so that its record is found bad.
const BAD_BYTE: u8 = 0xFF;

/// What is decoded at once.
const RAW_ROOM: usize = 32 * 1024;

/// What stands at the beginning of a text and is no part of it.
const MARKS: [(&[u8], Mark); 5] = [
    // Before that of UTF-16, with which it begins.
    (b"\xFF\xFE\0\0", Mark::Utf32),
    (b"\0\0\xFE\xFF", Mark::Utf32),
    (b"\xEF\xBB\xBF", Mark::Of(Encoding::UTF_8)),
    (b"\xFF\xFE", Mark::Of(Encoding::UTF_16LE)),
    (b"\xFE\xFF", Mark::Of(Encoding::UTF_16BE)),
];

/// What a byte order mark tells.
#[derive(Clone, Copy)]
enum Mark {
    Of(Encoding),
    Utf32,
}

/// An input's text, which comes straight from its reader where it is plain UTF-8.
pub(super) struct Input<R: Read> {
    text: Text<R>,
    encoding: Encoding,
    decoding: Option<Decoding>,
}

/// The bytes before they are decoded.
struct Text<R: Read> {
    unpacked: Unpacked<R>,
    /// What was looked at and is no mark.
    begun: Vec<u8>,
    bytes: u64,
    max_bytes: Option<u64>,
}

impl<R: Read> Input<R> {
    /// Looks at the first bytes: a packing, a byte order mark.
    pub(super) fn open(reader: R, options: &Options) -> Result<Self, IngestError> {
        let mut text = Text {
            unpacked: Unpacked::open(reader, options.packing)?,
            begun: Vec::new(),
            bytes: 0,
            max_bytes: options.max_input_bytes,
        };
        let packing = text.unpacked.packing();
        let inner = unpack::magics().filter(|_| packing.is_some());
        let marks = MARKS.iter().map(|(mark, _)| *mark).chain(inner);
        let mut begun = unpack::begin(marks, |room| text.read(room))?;
        if let Some(packing) = packing
            && Packing::of_bytes(&begun).is_some()
        {
            let reason = "it is packed twice; unpack it once".to_owned();
            return Err(IngestError::Packed { packing, reason });
        }
        let mark = MARKS.iter().find(|(mark, _)| begun.starts_with(mark));
        let encoding = match mark {
            None => options.encoding,
            Some((_, Mark::Utf32)) => return Err(IngestError::Utf32),
            Some((mark, Mark::Of(encoding))) => {
                begun.drain(..mark.len());
                *encoding
            }
        };
        text.begun = begun;
        Ok(Self {
            text,
            encoding,
            decoding: encoding.decoder().map(Decoding::new),
        })
    }

    /// Reads UTF-8 once, and [`BAD_BYTE`] for what is none; 0 is the end.
    ///
    /// The room must be larger than any character.
    #[inline]
    pub(super) fn read(&mut self, room: &mut [u8]) -> Result<usize, IngestError> {
        match &mut self.decoding {
            None => self.text.read(room),
            Some(decoding) => decoding.read(&mut self.text, room),
        }
    }

    /// The bytes read so far, unpacked and before they were decoded.
    pub(super) fn bytes(&self) -> u64 {
        self.text.bytes
    }

    /// The encoding that is in force.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// How it was packed.
    pub(super) fn packing(&self) -> Option<Packing> {
        self.text.unpacked.packing()
    }
}

impl<R: Read> Text<R> {
    fn read(&mut self, room: &mut [u8]) -> Result<usize, IngestError> {
        if !self.begun.is_empty() {
            let count = self.begun.len().min(room.len());
            for (to, from) in room.iter_mut().zip(self.begun.drain(..count)) {
                *to = from;
            }
            return Ok(count);
        }
        let count = self.unpacked.read(room)?.min(room.len());
        self.bytes += count as u64;
        match self.max_bytes {
            Some(limit) if self.bytes > limit => Err(IngestError::TooLarge { limit }),
            _ => Ok(count),
        }
    }
}

/// Bytes on their way to UTF-8.
struct Decoding {
    decoder: encoding_rs::Decoder,
    raw: Box<[u8]>,
    start: usize,
    end: usize,
    /// No more bytes will come.
    ended: bool,
    /// The decoder has had all of them, and may not be asked again.
    done: bool,
}

impl Decoding {
    fn new(decoder: encoding_rs::Decoder) -> Self {
        Self {
            decoder,
            raw: vec![0; RAW_ROOM].into(),
            start: 0,
            end: 0,
            ended: false,
            done: false,
        }
    }

    fn read<R: Read>(&mut self, text: &mut Text<R>, room: &mut [u8]) -> Result<usize, IngestError> {
        let mut written = 0;
        while written == 0 && !self.done {
            if self.start == self.end {
                (self.start, self.end) = (0, text.read(&mut self.raw)?);
                self.ended = self.end == 0;
            }
            written = self.decode(room);
        }
        Ok(written)
    }

    /// Decodes what is held; how many bytes that made.
    fn decode(&mut self, room: &mut [u8]) -> usize {
        use encoding_rs::DecoderResult::{InputEmpty, Malformed, OutputFull};
        let mut written = 0;
        // The last byte is kept for a bad one.
        while let Some((bad, free)) = room.get_mut(written..).and_then(<[u8]>::split_last_mut) {
            let held = self.raw.get(self.start..self.end).unwrap_or_default();
            let (result, read, made) = self
                .decoder
                .decode_to_utf8_without_replacement(held, free, self.ended);
            self.start += read;
            written += made;
            match result {
                InputEmpty => {
                    self.done = self.ended;
                    break;
                }
                OutputFull => break,
                Malformed(..) => {
                    let place = free.get_mut(made).unwrap_or(bad);
                    *place = BAD_BYTE;
                    written += 1;
                }
            }
        }
        written
    }
}

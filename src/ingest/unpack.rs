//! Packed inputs: gzip and zstd, unpacked while they are read.

use std::io::{self, BufRead, BufReader, Chain, Cursor, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use super::IngestError;

/// What is read of a packed input at once.
const ROOM: usize = 64 * 1024;

/// The largest window of zstd that is unpacked, as a power of 2: 128 MiB, what `zstd -d` takes.
const WINDOW_LOG: u32 = 27;

/// How an input is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// gzip, of one member or more.
    Gzip,
    /// zstd, of one frame or more.
    Zstd,
}

impl Packing {
    /// The packing that a path's extension tells, in any case of letters; `None` where it tells none.
    ///
    /// ```
    /// # use rowmill::ingest::Packing;
    /// # use std::path::Path;
    /// assert_eq!(Packing::of_path(Path::new("payments.csv.GZ")), Some(Packing::Gzip));
    /// assert_eq!(Packing::of_path(Path::new("events.jsonl.zst")), Some(Packing::Zstd));
    /// assert_eq!(Packing::of_path(Path::new("payments.csv")), None);
    /// ```
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?;
        [("gz", Self::Gzip), ("zst", Self::Zstd)]
            .into_iter()
            .find(|(known, _)| extension.eq_ignore_ascii_case(known))
            .map(|(_, packing)| packing)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The packing whose first bytes these are: no text in UTF-8 begins with them.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        MAGICS
            .into_iter()
            .find(|(magic, _)| bytes.starts_with(magic))
            .map(|(_, packing)| packing)
    }
}

/// The first bytes of packed inputs: gzip's two with its only method, zstd's four.
const MAGICS: [(&[u8], Packing); 2] = [
    (b"\x1F\x8B\x08", Packing::Gzip),
    (b"\x28\xB5\x2F\xFD", Packing::Zstd),
];

/// The first bytes of packed inputs.
pub(super) fn magics() -> impl Iterator<Item = &'static [u8]> + Clone {
    MAGICS.into_iter().map(|(magic, _)| magic)
}

/// A frame that zstd passes over may lead; its 16 magics differ in the lower half of the first byte.
/// It is asked for only where the name says zstd: a text may begin so.
fn is_skippable(bytes: &[u8]) -> bool {
    matches!(bytes, [0x50..=0x5F, 0x2A, 0x4D, 0x18])
}

/// Reads the first bytes, as long as they may still become one of the `marks`.
pub(super) fn begin<'m, E>(
    marks: impl Iterator<Item = &'m [u8]> + Clone,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<Vec<u8>, E> {
    let mut bytes = [0; 4];
    let mut len = 0;
    loop {
        let (begun, free) = bytes.split_at_mut(len);
        let open = |mark: &[u8]| mark.len() > begun.len() && mark.starts_with(begun);
        if !marks.clone().any(open) {
            return Ok(begun.to_vec());
        }
        match read(free)? {
            0 => return Ok(begun.to_vec()),
            count => len += count,
        }
    }
}

/// The reader below: an interruption is no error, for the unpackers would take it for the end, and
/// its errors are told from theirs.
pub(super) struct Source<R>(R);

impl<R: Read> Read for Source<R> {
    #[inline]
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(room) {
                Ok(count) => return Ok(count.min(room.len())),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(io::Error::other(Below(error))),
            }
        }
    }
}

/// An error of the reader below.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Below(io::Error);

/// A reader whose first bytes were looked at.
type Begun<R> = Chain<Cursor<Vec<u8>>, Source<R>>;

/// The bytes of an input, unpacked where they are packed.
pub(super) enum Unpacked<R: Read> {
    Plain(Begun<R>),
    Gzip(Box<Gzip<BufReader<Begun<R>>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Begun<R>>>>),
}

impl<R: Read> Unpacked<R> {
    /// Looks at the first bytes; where the name told a packing, they must tell one, too.
    pub(super) fn open(reader: R, named: Option<Packing>) -> Result<Self, IngestError> {
        let mut reader = Source(reader);
        let begun = match named {
            // As many bytes as the longest magic has, that of a frame to be passed over among them.
            Some(_) => {
                let mut begun = Vec::new();
                let read = Read::by_ref(&mut reader).take(4).read_to_end(&mut begun);
                read.map_err(below)?;
                begun
            }
            None => begin(magics(), |room| reader.read(room)).map_err(below)?,
        };
        let packing = Packing::of_bytes(&begun)
            .or_else(|| named.filter(|n| *n == Packing::Zstd && is_skippable(&begun)));
        if let Some(named) = named
            && packing.is_none()
        {
            return Err(not_packed(named, &begun));
        }
        let begun = Cursor::new(begun).chain(reader);
        let buffered = |begun| BufReader::with_capacity(ROOM, begun);
        Ok(match packing {
            None => Self::Plain(begun),
            Some(Packing::Gzip) => Self::Gzip(Box::new(Gzip::new(buffered(begun)))),
            Some(Packing::Zstd) => {
                let mut decoder = zstd::Decoder::with_buffer(buffered(begun))?;
                decoder.window_log_max(WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    /// How it was packed.
    pub(super) fn packing(&self) -> Option<Packing> {
        match self {
            Self::Plain(_) => None,
            Self::Gzip(_) => Some(Packing::Gzip),
            Self::Zstd(_) => Some(Packing::Zstd),
        }
    }

    /// Reads once; 0 is the end.
    #[inline]
    pub(super) fn read(&mut self, room: &mut [u8]) -> Result<usize, IngestError> {
        match self {
            Self::Plain(reader) => reader.read(room).map_err(below),
            Self::Gzip(reader) => reader.read(room).map_err(|e| broken(Packing::Gzip, e)),
            Self::Zstd(reader) => reader.read(room).map_err(|e| broken(Packing::Zstd, e)),
        }
    }
}

fn not_packed(packing: Packing, begun: &[u8]) -> IngestError {
    let reason = if begun.is_empty() {
        "it is empty".to_owned()
    } else {
        let name = packing.name();
        format!("its name says {name}, its first bytes are of no packing; rename it")
    };
    IngestError::Packed { packing, reason }
}

/// An error of the reader below as it was.
fn below(error: io::Error) -> IngestError {
    match error.downcast::<Below>() {
        Ok(Below(error)) | Err(error) => IngestError::Io(error),
    }
}

/// What an unpacker refused; an error of the reader below it stays one.
fn broken(packing: Packing, error: io::Error) -> IngestError {
    if error.get_ref().is_some_and(|inner| inner.is::<Below>()) {
        return below(error);
    }
    let text = error.to_string();
    let reason = if error.kind() == ErrorKind::UnexpectedEof {
        "it is cut off: its end is missing".to_owned()
    } else if text.contains("too much memory") {
        "it was packed with a window of more than 128 MiB; pack it without --long".to_owned()
    } else {
        format!("it is damaged: {text}")
    };
    IngestError::Packed { packing, reason }
}

/// The members of a gzip, one after the other.
///
/// Zeros after a member are padding, as `gzip` has it; anything else that is no member is an error,
/// for bytes that are passed over silently are rows that nobody misses.
pub(super) struct Gzip<B> {
    /// `None` only while one member takes the reader over from the other.
    member: Option<GzDecoder<B>>,
}

impl<B: BufRead> Gzip<B> {
    fn new(reader: B) -> Self {
        Self {
            member: Some(GzDecoder::new(reader)),
        }
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(room)?;
            if count > 0 {
                return Ok(count);
            }
            if !is_followed(member.get_mut())? {
                return Ok(0);
            }
            self.member = self.member.take().map(|m| GzDecoder::new(m.into_inner()));
        }
        Ok(0)
    }
}

/// Whether another member follows, after zeros or none.
fn is_followed(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let held = reader.fill_buf()?;
        let first = held.iter().position(|byte| *byte != 0);
        let is_member = first.map(|at| held.get(at) == Some(&0x1F));
        let zeros = first.unwrap_or(held.len());
        let ended = held.is_empty();
        reader.consume(zeros);
        match is_member {
            Some(true) => return Ok(true),
            Some(false) => {
                let text = "after its end comes something that is not gzip";
                return Err(io::Error::new(ErrorKind::InvalidData, text));
            }
            None if ended => return Ok(false),
            None => {}
        }
    }
}

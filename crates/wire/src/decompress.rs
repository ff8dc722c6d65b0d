//! The codecs of record batches as one bounded stream. What Kafka's Java client writes and what it reads: gzip, snappy
//! in xerial's framing (and raw, as other clients write it), lz4 frames of independent blocks, zstd.

use crate::batch::Compression;
use bytes::{Buf, Bytes, buf::Reader};
use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use std::fmt;
use std::io::{Error, ErrorKind, Read, Result};

/// What `snappy-java` (xerial) puts in front: magic, version, oldest compatible version.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// Snappy cannot do better than a copy of 64 bytes in 3: who promises more than this per byte lies.
const SNAPPY_RATIO_MAX: usize = 22;
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The "block independence" bit of an lz4 frame's flags.
const LZ4_INDEPENDENT: u8 = 0x20;

/// The decompressed bytes of a batch.
pub(crate) enum Decompress {
    Gzip(Box<MultiGzDecoder<Reader<Bytes>>>),
    Snappy(Snappy),
    Lz4(Box<FrameDecoder<Reader<Bytes>>>),
    Zstd(Box<zstd::Decoder<'static, Reader<Bytes>>>),
    Refused(&'static str),
}

/// Blocks of raw snappy, each behind its length (xerial), or a single one that is everything.
pub(crate) struct Snappy {
    rest: Bytes,
    framed: bool,
    block: Vec<u8>,
    at: usize,
    block_bytes_max: usize,
}

impl Decompress {
    /// `output_bytes_max` bounds what is reserved at once; the whole output is for the caller to count.
    pub(crate) fn new(codec: Compression, compressed: Bytes, output_bytes_max: usize) -> Self {
        match codec {
            Compression::None => Self::Refused("not compressed"),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(compressed.reader()))),
            Compression::Snappy => Self::Snappy(Snappy::new(compressed, output_bytes_max)),
            // Kafka's own reader refuses linked blocks as well (`Lz4BlockInputStream`), so no broker holds them.
            Compression::Lz4 => match compressed.first_chunk() {
                Some([a, b, c, d, flags]) if [*a, *b, *c, *d] == LZ4_MAGIC && flags & LZ4_INDEPENDENT != 0 => {
                    Self::Lz4(Box::new(FrameDecoder::new(compressed.reader())))
                }
                _ => Self::Refused("not an lz4 frame of independent blocks"),
            },
            Compression::Zstd => match zstd::Decoder::with_buffer(compressed.reader()) {
                Ok(decoder) => Self::Zstd(Box::new(decoder)),
                Err(_) => Self::Refused("no memory for zstd"),
            },
        }
    }
}

impl Read for Decompress {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        match self {
            Self::Gzip(inner) => inner.read(out),
            Self::Snappy(inner) => inner.read(out),
            // A frame's end reads as 0 and must be the last call: a second frame may have other block sizes, which
            // `lz4_flex` does not expect. `Compressed::fill` stops there, as Kafka does.
            Self::Lz4(inner) => inner.read(out),
            Self::Zstd(inner) => inner.read(out),
            Self::Refused(why) => Err(invalid(why)),
        }
    }
}

impl Snappy {
    fn new(compressed: Bytes, output_bytes_max: usize) -> Self {
        let framed = compressed.starts_with(XERIAL_MAGIC);
        let rest = if framed { compressed.slice(XERIAL_HEADER_BYTES.min(compressed.len())..) } else { compressed };
        Self { rest, framed, block: Vec::new(), at: 0, block_bytes_max: output_bytes_max }
    }

    fn next_block(&mut self) -> Result<Option<Bytes>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if !self.framed {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        let length = self.rest.try_get_u32().map_err(|_| invalid("cut off between two blocks"))?;
        let length = usize::try_from(length).ok().filter(|length| *length <= self.rest.len());
        let length = length.ok_or_else(|| invalid("block exceeds the batch"))?;
        Ok(Some(self.rest.split_to(length)))
    }
}

impl Read for Snappy {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        while self.at >= self.block.len() {
            let Some(compressed) = self.next_block()? else { return Ok(0) };
            let stated = snap::raw::decompress_len(&compressed)?;
            if stated > compressed.len().saturating_mul(SNAPPY_RATIO_MAX) {
                return Err(invalid("block promises more than snappy can hold"));
            }
            if stated > self.block_bytes_max {
                return Err(invalid("block exceeds the limit of decompressed bytes"));
            }
            self.block.resize(stated, 0);
            let bytes = snap::raw::Decoder::new().decompress(&compressed, &mut self.block)?;
            self.block.truncate(bytes);
            self.at = 0;
        }
        let ready = self.block.get(self.at..).unwrap_or_default();
        let bytes = ready.len().min(out.len());
        for (to, from) in out.iter_mut().zip(ready) {
            *to = *from;
        }
        self.at += bytes;
        Ok(bytes)
    }
}

impl fmt::Debug for Decompress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Snappy(_) => "Snappy",
            Self::Lz4(_) => "Lz4",
            Self::Zstd(_) => "Zstd",
            Self::Refused(why) => why,
        })
    }
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

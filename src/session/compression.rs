//! DEFLATE in both directions of a connection (RFC 4978, RFC 1951).
//!
//! # Failure
//! Bytes that cannot be unpacked are an error of the connection.
//!
//! # Limits
//! [`COMPRESSED_MAX`] connections of the process. Bytes are unpacked [`PIECE`] at a time, however many they would become.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most connections that are compressed at a time: each takes about 350 KiB for its windows.
pub const COMPRESSED_MAX: usize = 256;
/// How much is unpacked at once, in bytes.
const PIECE: usize = 16 << 10;
/// How much room for packed bytes is made at once.
const ROOM: usize = 8 << 10;

static COMPRESSED: AtomicUsize = AtomicUsize::new(0);

/// One of the [`COMPRESSED_MAX`] places.
struct Place;

impl Place {
    fn take() -> Option<Place> {
        let more = |count: usize| (count < COMPRESSED_MAX).then_some(count + 1);
        COMPRESSED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        COMPRESSED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Packs and unpacks.
pub struct Deflate {
    out: Compress,
    unpacker: Decompress,
    /// Bytes that came and are still packed.
    pub packed: Vec<u8>,
    _place: Place,
}

impl Deflate {
    /// `None`: too many connections are compressed already.
    pub fn new(packed: Vec<u8>) -> Option<Deflate> {
        let place = Place::take()?;
        let (out, unpacker) = (Compress::new(Compression::fast(), false), Decompress::new(false));
        Some(Deflate { out, unpacker, packed, _place: place })
    }

    /// Unpacks some bytes to the end of `buffer`; 0 if more have to come first.
    pub fn unpack(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let before = buffer.len();
        buffer.reserve_exact(PIECE);
        let consumed_before = self.unpacker.total_in();
        let status = self.unpacker.decompress_vec(&self.packed, buffer, FlushDecompress::Sync);
        let consumed = (self.unpacker.total_in() - consumed_before) as usize;
        self.packed.drain(..consumed.min(self.packed.len()));
        if self.packed.is_empty() {
            self.packed = Vec::new();
        }
        match status {
            Ok(Status::StreamEnd) if buffer.len() == before => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(buffer.len() - before),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Packs bytes so that the other side can unpack all of them.
    pub fn pack(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let (begin, mut packed) = (self.out.total_in(), Vec::with_capacity(bytes.len() / 2 + ROOM));
        loop {
            let done = (self.out.total_in() - begin) as usize;
            let rest = bytes.get(done..).unwrap_or_default();
            self.out.compress_vec(rest, &mut packed, FlushCompress::Sync).map_err(io::Error::other)?;
            let is_whole = (self.out.total_in() - begin) as usize >= bytes.len();
            // With room left nothing more is to come.
            if is_whole && packed.len() < packed.capacity() {
                return Ok(packed);
            }
            packed.reserve(ROOM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unpacked(deflate: &mut Deflate, packed: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in packed.chunks(1000) {
            deflate.packed.extend_from_slice(piece);
            while deflate.unpack(&mut all).unwrap() > 0 {}
        }
        all
    }

    #[test]
    fn little_comes_of_a_bomb_at_once() {
        let (mut one, mut other) = (Deflate::new(Vec::new()).unwrap(), Deflate::new(Vec::new()).unwrap());
        other.packed = one.pack(&vec![b'x'; 16 << 20]).unwrap();
        assert!(other.packed.len() < 200_000);
        let mut buffer = Vec::new();
        assert!(other.unpack(&mut buffer).unwrap() <= PIECE);
        assert!(buffer.capacity() <= 2 * PIECE);
        other.packed = b"\xff\xff\xff\xff".to_vec();
        assert!(Deflate::new(b"\xff\xff\xff".to_vec()).unwrap().unpack(&mut buffer).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_packed_comes_back(texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40_000), 1..4)) {
            let (mut one, mut other) = (Deflate::new(Vec::new()).unwrap(), Deflate::new(Vec::new()).unwrap());
            for text in texts {
                let packed = one.pack(&text).unwrap();
                prop_assert_eq!(unpacked(&mut other, &packed), text);
            }
        }
    }
}

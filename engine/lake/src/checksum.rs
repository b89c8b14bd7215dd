//! Checksums in the files of tables.

/// The checksum of zlib, which Avro, Puffin and deletion vectors use, too.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

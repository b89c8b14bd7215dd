//! Checksums in the files of tables.

/// zlib's CRC-32, which Avro, Puffin and deletion vectors use.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

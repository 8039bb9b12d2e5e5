//! RocksDB's settings, each with its reason. None of them is for users: they follow from what the families hold.

use rocksdb::BlockBasedOptions;
use rocksdb::Cache;
use rocksdb::ColumnFamilyDescriptor;
use rocksdb::DBCompressionType;
use rocksdb::DBRecoveryMode;
use rocksdb::LogLevel;
use rocksdb::Options;

use crate::store::Family;

/// Values from this size on are blobs: request bodies are, ticks and cursors are not.
const BLOB_BYTES: u64 = 1 << 10;
/// A flush writes its values in key order, so shard by shard: in files of this size the shards hardly mix, and one shard's slow sink does
/// not hold back the others' space.
const BLOB_FILE_BYTES: u64 = 8 << 20;
/// Of a log family in memory until it is flushed, at most.
const LOG_BUFFER: u64 = 32 << 20;
/// A disk has room for so many of these buffers. Two log families with three each, all flushed at once, take 5 % then: half of the reserve
/// that samples leave free, so a disk that is full of samples can still be flushed, and given back.
const BUFFERS_ON_DISK: u64 = 128;
/// Of any other family.
const OTHER_BUFFER: usize = 8 << 20;
/// With more of these in the WAL the oldest buffers are flushed, so that it can go. It is read at start: 256 MiB take a second.
const WAL_BUFFERS: u64 = 8;

/// The size of a log family's buffer on a disk of so many bytes.
fn log_buffer(disk_bytes: u64) -> u64 {
    (disk_bytes / BUFFERS_ON_DISK).clamp(1 << 20, LOG_BUFFER)
}

/// Of the whole database.
pub(super) fn database(recovery: DBRecoveryMode, disk_bytes: u64) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(recovery);
    // Notices closed WAL files that are missing or too short; the live one is `mark`'s business.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    // Reused WAL files would make a torn tail look like older data.
    options.set_recycle_log_file_num(0);
    options.set_manual_wal_flush(false);
    options.set_enable_pipelined_write(false);
    options.set_max_total_wal_size(log_buffer(disk_bytes) * WAL_BUFFERS);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(4 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// All families with their settings.
pub(super) fn families(disk_bytes: u64) -> Vec<ColumnFamilyDescriptor> {
    let log_buffer = log_buffer(disk_bytes) as usize;
    let cache = Cache::new_lru_cache(32 << 20);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&cache);
    let of = |family: Family| {
        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        match family {
            Family::LogLeader | Family::LogStandby => {
                options.set_write_buffer_size(log_buffer);
                options.set_max_write_buffer_number(3);
                options.set_enable_blob_files(true);
                options.set_min_blob_size(BLOB_BYTES);
                options.set_blob_file_size(BLOB_FILE_BYTES);
                // Bodies come packed; and nothing is moved to reclaim space, the range goes as a whole.
                options.set_blob_compression_type(DBCompressionType::None);
                options.set_enable_blob_gc(false);
                // Without bodies the tables are tiny: many of them in level 0 are no reason to slow down writers.
                options.set_level_zero_slowdown_writes_trigger(60);
                options.set_level_zero_stop_writes_trigger(100);
            }
            _ => {
                options.set_write_buffer_size(OTHER_BUFFER.min(log_buffer));
                options.set_compression_type(DBCompressionType::Lz4);
            }
        }
        ColumnFamilyDescriptor::new(family.name(), options)
    };
    Family::ALL.into_iter().map(of).collect()
}

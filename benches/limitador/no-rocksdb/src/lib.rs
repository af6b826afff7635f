//! Stub of RocksDB; opening a database always fails. See `Cargo.toml`.
#![allow(missing_docs, clippy::missing_errors_doc, clippy::unused_self)]

use std::{fmt, marker::PhantomData, path::Path};

pub type DB = DBWithThreadMode<MultiThreaded>;
type Entry = Result<(Box<[u8]>, Box<[u8]>), Error>;
type Entries = std::iter::Empty<Entry>;

#[derive(Debug, Default)]
pub struct Options;
pub struct MultiThreaded;
pub struct DBWithThreadMode<T>(PhantomData<T>);
pub struct MergeOperands;
pub enum DBCompressionType {
    None,
    Bz2,
}
pub enum CompactionDecision {
    Keep,
    Remove,
}
pub enum IteratorMode {
    Start,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    TimedOut,
    TryAgain,
    NotSupported,
}
#[derive(Debug)]
pub struct Error;

impl Options {
    pub fn set_compression_type(&mut self, _: DBCompressionType) {}
    pub fn set_compaction_filter(&mut self, _: &str, _: impl FnMut(u32, &[u8], &[u8]) -> CompactionDecision) {}
    pub fn set_merge_operator_associative(
        &mut self,
        _: &str,
        _: impl Fn(&[u8], Option<&[u8]>, &MergeOperands) -> Option<Vec<u8>>,
    ) {
    }
    pub fn create_if_missing(&mut self, _: bool) {}
}

impl<T> DBWithThreadMode<T> {
    pub fn open(_: &Options, _: impl AsRef<Path>) -> Result<Self, Error> {
        Err(Error)
    }
    pub fn get(&self, _: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        Err(Error)
    }
    pub fn merge(&self, _: impl AsRef<[u8]>, _: impl AsRef<[u8]>) -> Result<(), Error> {
        Err(Error)
    }
    pub fn delete(&self, _: impl AsRef<[u8]>) -> Result<(), Error> {
        Err(Error)
    }
    pub fn iterator(&self, _: IteratorMode) -> Entries {
        std::iter::empty()
    }
    pub fn prefix_iterator(&self, _: impl AsRef<[u8]>) -> Entries {
        std::iter::empty()
    }
}

impl<'a> IntoIterator for &'a MergeOperands {
    type Item = &'a [u8];
    type IntoIter = std::iter::Empty<&'a [u8]>;
    fn into_iter(self) -> Self::IntoIter {
        std::iter::empty()
    }
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::NotSupported
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this build has no RocksDB")
    }
}

impl std::error::Error for Error {}

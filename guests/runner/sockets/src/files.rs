//! `wasi:filesystem`, as it is. It is here only because its streams are those of
//! `wasi:io/streams`, which come from here.

use crate::Component;
use crate::exports::wasi::filesystem::{preopens, types};
use crate::exports::wasi::io::streams::{InputStream, OutputStream};
use crate::streams::{Input, Output};
use crate::wasi::filesystem::preopens as system;
use crate::wasi::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
    filesystem_error_code,
};
use crate::wasi::io::error::Error;
use alloc::string::String;
use alloc::vec::Vec;

impl preopens::Guest for Component {
    fn get_directories() -> Vec<(types::Descriptor, String)> {
        let directories = system::get_directories().into_iter();
        directories
            .map(|(directory, name)| (types::Descriptor::new(directory), name))
            .collect()
    }
}

impl types::Guest for Component {
    type Descriptor = Descriptor;
    type DirectoryEntryStream = DirectoryEntryStream;

    fn filesystem_error_code(error: &Error) -> Option<ErrorCode> {
        filesystem_error_code(error)
    }
}

impl types::GuestDirectoryEntryStream for DirectoryEntryStream {
    fn read_directory_entry(&self) -> Result<Option<DirectoryEntry>, ErrorCode> {
        self.read_directory_entry()
    }
}

impl types::GuestDescriptor for Descriptor {
    fn read_via_stream(&self, offset: u64) -> Result<InputStream, ErrorCode> {
        let stream = self.read_via_stream(offset)?;
        Ok(InputStream::new(Input::Other(stream)))
    }

    fn write_via_stream(&self, offset: u64) -> Result<OutputStream, ErrorCode> {
        let stream = self.write_via_stream(offset)?;
        Ok(OutputStream::new(Output::Other(stream)))
    }

    fn append_via_stream(&self) -> Result<OutputStream, ErrorCode> {
        let stream = self.append_via_stream()?;
        Ok(OutputStream::new(Output::Other(stream)))
    }

    fn advise(&self, offset: u64, length: u64, advice: Advice) -> Result<(), ErrorCode> {
        self.advise(offset, length, advice)
    }

    fn sync_data(&self) -> Result<(), ErrorCode> {
        self.sync_data()
    }

    fn get_flags(&self) -> Result<DescriptorFlags, ErrorCode> {
        self.get_flags()
    }

    fn get_type(&self) -> Result<DescriptorType, ErrorCode> {
        self.get_type()
    }

    fn set_size(&self, size: u64) -> Result<(), ErrorCode> {
        self.set_size(size)
    }

    fn set_times(&self, accessed: NewTimestamp, modified: NewTimestamp) -> Result<(), ErrorCode> {
        self.set_times(accessed, modified)
    }

    fn read(&self, length: u64, offset: u64) -> Result<(Vec<u8>, bool), ErrorCode> {
        self.read(length, offset)
    }

    fn write(&self, buffer: Vec<u8>, offset: u64) -> Result<u64, ErrorCode> {
        self.write(&buffer, offset)
    }

    fn read_directory(&self) -> Result<types::DirectoryEntryStream, ErrorCode> {
        Ok(types::DirectoryEntryStream::new(self.read_directory()?))
    }

    fn sync(&self) -> Result<(), ErrorCode> {
        self.sync()
    }

    fn create_directory_at(&self, path: String) -> Result<(), ErrorCode> {
        self.create_directory_at(&path)
    }

    fn stat(&self) -> Result<DescriptorStat, ErrorCode> {
        self.stat()
    }

    fn stat_at(&self, flags: PathFlags, path: String) -> Result<DescriptorStat, ErrorCode> {
        self.stat_at(flags, &path)
    }

    fn set_times_at(
        &self,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Result<(), ErrorCode> {
        self.set_times_at(flags, &path, accessed, modified)
    }

    fn link_at(
        &self,
        flags: PathFlags,
        old_path: String,
        new_directory: types::DescriptorBorrow<'_>,
        new_path: String,
    ) -> Result<(), ErrorCode> {
        self.link_at(flags, &old_path, new_directory.get::<Self>(), &new_path)
    }

    fn open_at(
        &self,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> Result<types::Descriptor, ErrorCode> {
        let descriptor = self.open_at(path_flags, &path, open_flags, flags)?;
        Ok(types::Descriptor::new(descriptor))
    }

    fn readlink_at(&self, path: String) -> Result<String, ErrorCode> {
        self.readlink_at(&path)
    }

    fn remove_directory_at(&self, path: String) -> Result<(), ErrorCode> {
        self.remove_directory_at(&path)
    }

    fn rename_at(
        &self,
        old_path: String,
        new_directory: types::DescriptorBorrow<'_>,
        new_path: String,
    ) -> Result<(), ErrorCode> {
        self.rename_at(&old_path, new_directory.get::<Self>(), &new_path)
    }

    fn symlink_at(&self, old_path: String, new_path: String) -> Result<(), ErrorCode> {
        self.symlink_at(&old_path, &new_path)
    }

    fn unlink_file_at(&self, path: String) -> Result<(), ErrorCode> {
        self.unlink_file_at(&path)
    }

    fn is_same_object(&self, other: types::DescriptorBorrow<'_>) -> bool {
        self.is_same_object(other.get::<Self>())
    }

    fn metadata_hash(&self) -> Result<MetadataHashValue, ErrorCode> {
        self.metadata_hash()
    }

    fn metadata_hash_at(
        &self,
        flags: PathFlags,
        path: String,
    ) -> Result<MetadataHashValue, ErrorCode> {
        self.metadata_hash_at(flags, &path)
    }
}

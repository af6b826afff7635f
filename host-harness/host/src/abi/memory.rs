//! Access to a module's memory, with every pointer checked against its bounds.

use wasmtime::{AsContext, AsContextMut, Caller, Extern, Memory};

use super::state::HostState;

/// Statuses of proxy-wasm 0.2.1 that the harness returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    SerializationFailure = 3,
    ParseFailure = 4,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
    Unimplemented = 12,
}

/// Failure of a host function.
pub(crate) enum Fault {
    /// Status returned to the module.
    Status(Status),
    /// Trap that ends the VM, for example one in the module's allocator.
    Trap(wasmtime::Error),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// Converts a host function's result to the status that the module receives, or to a trap.
pub(crate) fn answer(result: Result<(), Fault>) -> wasmtime::Result<u32> {
    match result {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Fault::Status(status)) => Ok(status as u32),
        Err(Fault::Trap(error)) => Err(error),
    }
}

/// Calling module: its memory and its host state.
pub(crate) struct Guest<'a, 'b> {
    caller: &'a mut Caller<'b, HostState>,
}

impl<'a, 'b> Guest<'a, 'b> {
    pub(crate) fn new(caller: &'a mut Caller<'b, HostState>) -> Self {
        caller.data_mut().note_call();
        Self { caller }
    }

    /// Access by a host function that a module may call while it is initialised.
    pub(crate) fn initializing(caller: &'a mut Caller<'b, HostState>) -> Self {
        Self { caller }
    }

    pub(crate) fn state(&mut self) -> &mut HostState {
        self.caller.data_mut()
    }

    pub(crate) fn read(&mut self, pointer: u32, length: u32) -> Result<Vec<u8>, Fault> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let memory = self.memory()?;
        let start = pointer as usize;
        let range = start..start.saturating_add(length as usize);
        let bytes = memory.data(self.caller.as_context()).get(range).ok_or(Status::InvalidMemoryAccess)?;
        Ok(bytes.to_vec())
    }

    pub(crate) fn read_text(&mut self, pointer: u32, length: u32) -> Result<String, Fault> {
        let bytes = self.read(pointer, length)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Fault> {
        let memory = self.memory()?;
        let start = pointer as usize;
        let range = start..start.saturating_add(bytes.len());
        let target = memory.data_mut(self.caller.as_context_mut()).get_mut(range).ok_or(Status::InvalidMemoryAccess)?;
        target.copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn write_u32(&mut self, pointer: u32, value: u32) -> Result<(), Fault> {
        self.write(pointer, &value.to_le_bytes())
    }

    pub(crate) fn write_u64(&mut self, pointer: u32, value: u64) -> Result<(), Fault> {
        self.write(pointer, &value.to_le_bytes())
    }

    /// Copies bytes into memory that the module allocates, and writes pointer and length; empty bytes allocate nothing.
    pub(crate) fn give(&mut self, bytes: &[u8], pointer_at: u32, length_at: u32) -> Result<(), Fault> {
        let length = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        let pointer = if length == 0 { 0 } else { self.allocate(length)? };
        if length > 0 {
            self.write(pointer, bytes)?;
        }
        self.write_u32(pointer_at, pointer)?;
        self.write_u32(length_at, length)
    }

    /// Like [`Guest::give`], but writes only to the places that are not 0.
    pub(crate) fn give_wanted(&mut self, bytes: &[u8], pointer_at: u32, length_at: u32) -> Result<(), Fault> {
        let length = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        if pointer_at != 0 {
            let pointer = if length == 0 { 0 } else { self.allocate(length)? };
            self.write(pointer, bytes)?;
            self.write_u32(pointer_at, pointer)?;
        }
        if length_at != 0 {
            self.write_u32(length_at, length)?;
        }
        Ok(())
    }

    fn allocate(&mut self, length: u32) -> Result<u32, Fault> {
        let allocate = self.caller.data().allocate.clone().ok_or(Status::InvalidMemoryAccess)?;
        match allocate.call(self.caller.as_context_mut(), length).map_err(Fault::Trap)? {
            0 => Err(Status::InvalidMemoryAccess.into()),
            pointer => Ok(pointer),
        }
    }

    fn memory(&mut self) -> Result<Memory, Fault> {
        if let Some(memory) = self.caller.data().memory {
            return Ok(memory);
        }
        // A start function can call the host before `HostState::memory` is set.
        let exported = self.caller.get_export("memory").and_then(Extern::into_memory);
        Ok(exported.ok_or(Status::InvalidMemoryAccess)?)
    }
}

//! nginx with its Lua module, from Debian's packages, installed or a private copy; `weir bench` compares Weir with it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    ProvisionError, checkout, command, debian, port,
    process::{ServerProcess, accepts, last_lines},
    tools,
};

const READY_WITHIN: Duration = Duration::from_secs(20);
/// nginx, the Lua module, and those of their dependencies that a machine may lack.
const PACKAGES: [&str; 7] = [
    "nginx",
    "libnginx-mod-http-ndk",
    "libnginx-mod-http-lua",
    "libluajit2-5.1-2",
    "libpcre3",
    "lua-resty-core",
    "lua-resty-lrucache",
];

/// The files of an nginx installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The executable.
    pub binary: PathBuf,
    /// The modules to load for Lua, in this order.
    pub modules: Vec<PathBuf>,
    /// Folders of Lua libraries.
    pub lua: Vec<PathBuf>,
    /// Folders of shared libraries outside the system's search path.
    libraries: Vec<PathBuf>,
}

/// A running nginx process. Dropping it stops the process.
pub struct NginxServer {
    addr: SocketAddr,
    _scratch: TempDir,
    process: ServerProcess,
}

/// An nginx with its Lua module: Debian's if it is installed, otherwise a private copy fetched before.
pub fn find() -> Option<Installed> {
    let private = || Installed::under(&tools::dir().ok()?.join("nginx"));
    Installed::under(Path::new("/")).or_else(private)
}

/// The nginx of [`find`], or a private copy of Debian's packages fetched now.
///
/// # Errors
/// [`ProvisionError::Missing`] if there is none.
pub fn find_or_fetch() -> Result<Installed, ProvisionError> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let place = tools::dir()?.join("nginx");
    let _lock = tools::lock("nginx")?;
    fetch(&place).map_err(|why| missing(why.to_string()))?;
    Installed::under(&place).ok_or_else(|| missing("Debian's packages have no nginx with a Lua module".into()))
}

fn missing(why: String) -> ProvisionError {
    let try_command = "apt-get install nginx libnginx-mod-http-lua".into();
    ProvisionError::Missing { what: "nginx with Lua", why, try_command }
}

fn fetch(place: &Path) -> Result<(), ProvisionError> {
    crate::announce(format_args!("weir: no nginx with Lua: fetching Debian's packages into target/tools (2 MB)"));
    debian::unpack(&PACKAGES, place)
}

impl Installed {
    /// The installation at the paths of Debian's packages, below a root folder.
    fn under(root: &Path) -> Option<Self> {
        let binary = Some(root.join("usr/sbin/nginx")).filter(|file| command::is_executable(file))?;
        let modules: Vec<PathBuf> = ["ndk_http_module.so", "ngx_http_lua_module.so"]
            .map(|name| root.join("usr/lib/nginx/modules").join(name))
            .to_vec();
        let lua = root.join("usr/share/lua/5.1");
        if !modules.iter().all(|module| module.is_file()) || !lua.join("resty/core.lua").is_file() {
            return None;
        }
        let libraries = if root == Path::new("/") { Vec::new() } else { debian::libraries(root) };
        Some(Self { binary, modules, lua: vec![lua], libraries })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        if let Ok(path) = std::env::join_paths(&self.libraries)
            && !path.is_empty()
        {
            command.env("LD_LIBRARY_PATH", path);
        }
        command
    }

    /// The version, such as `1.22.1`.
    ///
    /// # Errors
    /// If nginx cannot be run.
    pub fn version(&self) -> Result<String, ProvisionError> {
        // nginx prints its version to standard error.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" -v 2>&1"]).arg(&self.binary);
        let printed = command::run(&mut shell)?;
        Ok(printed.trim().rsplit('/').next().unwrap_or("unknown").to_owned())
    }
}

impl NginxServer {
    /// Starts an nginx on a free port and waits until it accepts connections. `configuration` is given the installation
    /// and the address to listen on, and returns the text of an `nginx.conf` that keeps nginx in the foreground.
    ///
    /// # Errors
    /// If there is no nginx, or it does not accept connections within 20 s. The latter error shows the end of its log.
    pub fn start(configuration: impl Fn(&Installed, SocketAddr) -> String) -> Result<Self, ProvisionError> {
        let installed = find_or_fetch()?;
        port::on_a_free_port(|addr| Self::start_on(&installed, addr, &configuration(&installed, addr)))
    }

    fn start_on(installed: &Installed, addr: SocketAddr, configuration: &str) -> Result<Self, ProvisionError> {
        let scratch = checkout::scratch_dir("nginx")?;
        let file = scratch.path().join("nginx.conf");
        std::fs::write(&file, configuration).map_err(ProvisionError::io(&file))?;
        let mut command = installed.command();
        command.arg("-p").arg(scratch.path()).arg("-c").arg(&file).args(["-e", "stderr"]);
        let mut process = ServerProcess::spawn(&mut command, &scratch.path().join("nginx.log"))?;
        process.wait_until_ready(&format!("nginx on {addr}"), READY_WITHIN, last_lines, || accepts(addr))?;
        Ok(Self { addr, _scratch: scratch, process })
    }

    /// The address of its listener.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl std::fmt::Debug for NginxServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NginxServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

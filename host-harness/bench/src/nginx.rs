//! nginx's configuration: one worker that answers directly, or after a script call to Redis from Lua.

use std::net::SocketAddr;

use super::stage::Installed;

/// Response body of Envoy's fault filter, so that all responses are alike.
const BODY: &str = "fault filter abort";
/// Minimal token bucket script (GCRA) for Redis.
pub(super) const GCRA: &str = include_str!("peers/gcra.lua");
const ASK: &str = include_str!("peers/nginx.lua");

/// The text of `nginx.conf`. With `redis`, nginx calls Redis before it answers. Relative paths start from nginx's
/// prefix folder.
pub(super) fn configuration(installed: &Installed, addr: SocketAddr, redis: Option<SocketAddr>) -> String {
    let modules: String = match redis {
        Some(_) => installed.modules.iter().map(|module| format!("load_module {};\n", module.display())).collect(),
        None => String::new(),
    };
    let (prepare, answer) = match redis {
        None => (String::new(), format!("return 200 \"{BODY}\";")),
        Some(redis) => {
            let path: String = installed.lua.iter().map(|dir| format!("{}/?.lua;", dir.display())).collect();
            let (ip, port) = (redis.ip(), redis.port());
            let ask = ASK.replace("@redis-ip@", &ip.to_string()).replace("@redis-port@", &port.to_string());
            let ask = ask.replace("@body@", BODY).replace("@script@", GCRA.trim_end());
            let prepare = format!("lua_package_path \"{path};\";\n  init_by_lua_block {{\n{ask}  }}");
            (prepare, "access_by_lua_block { limit() }".to_owned())
        }
    };
    format!(
        "{modules}daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type text/plain;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  {prepare}
  server {{
    listen {addr};
    location / {{ {answer} }}
  }}
}}
"
    )
}

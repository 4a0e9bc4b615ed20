//! nginx as an ordinary application, for tests that want an origin nobody here wrote.

use std::net::SocketAddr;
use std::path::Path;

use crate::child::Child;
use crate::{ports, tools, wait, wire};

/// A running nginx. Killed when dropped.
#[derive(Debug)]
pub struct Nginx {
    addr: SocketAddr,
    child: Child,
}

impl Nginx {
    /// Listens on a free port; every path answers 200 with `nginx METHOD URI`.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let addr = ports::local();
        let config = write_config(dir, &addr.to_string());
        let mut command = tools::system("nginx", "nginx-light");
        let child = Child::start(dir, "nginx", command.arg("-c").arg(&config).arg("-p").arg(dir));
        wait::until("nginx to answer", wait::SOON, || wire::get(addr, "nginx", "/").ok());
        Self { addr, child }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its access log so far, in nginx's combined format.
    #[must_use]
    pub fn access_log(&self) -> Vec<String> {
        self.child.stdout.lines()
    }
}

/// Writes a configuration for the foreground, logging to stdout, and gives its path. `listen` is nginx's word.
#[must_use]
pub fn write_config(dir: &Path, listen: &str) -> std::path::PathBuf {
    let path = dir.join("nginx.conf");
    let text = format!(
        "daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log stderr warn;\nevents {{}}\nhttp {{\n  \
         access_log /dev/stdout;\n  client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  \
         fastcgi_temp_path {dir}/fastcgi;\n  uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n  \
         keepalive_requests 1000000;\n  server {{\n    listen {listen};\n    location / {{\n      \
         default_type text/plain;\n      return 200 \"nginx $request_method $request_uri\\n\";\n    }}\n  }}\n}}\n",
        dir = dir.display(),
    );
    std::fs::write(&path, text).unwrap();
    path
}

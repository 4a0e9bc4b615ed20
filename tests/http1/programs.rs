//! Programs that nobody here wrote: Python's HTTP client before nginx.

use support::child::run;
use support::nginx::Nginx;
use support::pair::HOST;
use support::tools;

use super::open::setting;

/// One kept connection, every kind of request; prints what went wrong.
const ASK: &str = "
import http.client, sys
connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=20)
host = {'Host': sys.argv[2]}
opened = 0
connect = connection.connect
def counted():
    global opened
    opened += 1
    connect()
connection.connect = counted
def ask(method, path, status, text, body=None, headers={}, **more):
    connection.request(method, path, body=body, headers={**host, **headers}, **more)
    reply = connection.getresponse()
    got = reply.read().decode()
    if (reply.status, got) != (status, text):
        print(method, path, reply.status, repr(got))
for number in range(30):
    path = f'/open/{number}'
    ask('GET', path, 200, f'nginx GET {path}\\n')
    ask('HEAD', path, 200, '')
    ask('DELETE', '/denied', 403, 'RBAC: access denied')
print('opened', opened)
# nginx answers before it has the body: then it depends on who is faster whether the connection is kept.
for number in range(30):
    path = f'/open/{number}'
    ask('POST', path, 200, f'nginx POST {path}\\n', body=b'x' * 1000)
    ask('PUT', path, 200, f'nginx PUT {path}\\n', body=iter([b'abc', b'de' * 5000]), encode_chunked=True)
";

#[test]
fn pythons_client_keeps_one_connection_to_nginx_through_the_pair() {
    let setting = setting();
    let nginx = Nginx::start(setting.dir.path());
    let (app, new) = (setting.at.app.to_string(), nginx.addr().to_string());
    let setting = setting.server(|text| text.replace(&app, &new));
    let (_server, _client) = (setting.start_server(), setting.start_client());
    let mut python = tools::python();
    let said = run(python.args(["-c", ASK, &setting.at.entry.port().to_string(), HOST]));
    assert_eq!(said.trim(), "opened 1");
    let lines = nginx.access_log();
    let asked = lines.iter().filter(|line| line.contains("/open/")).count();
    assert_eq!(asked, 120, "no request more and none less");
    assert!(!lines.iter().any(|line| line.contains("denied")));
}

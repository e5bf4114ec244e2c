//! Documents, whole: what is read, and what is said of what cannot be.

use super::*;

/// The shape of the original's own files.
const ORIGINAL: &str = r#"{
	"server_name": "eXpServer",
	"workers": 4,
	"servers": [
		{
			"listeners": [{ "host": "0.0.0.0", "port": 8001 }],
			"routes": [
				{
					"req_path": "/",
					"type": "file_serve",
					"dir_path": "../public/",
					"index": ["index.html"],
					"gzip_enable": true,
					"gzip_level": -1,
					"gzip_mime_types": ["text/x-c"],
					"ip_whitelist": ["127.0.0.1", "0.0.0.0"],
					"ip_blacklist": ["127.0.0.2"]
				},
				{
					"req_path": "/hello",
					"type": "redirect",
					"http_status_code": 302,
					"redirect_url": "http://localhost:8002/"
				},
				{ "req_path": "/metrics", "type": "metrics" }
			]
		},
		{
			"listeners": [{ "host": "0.0.0.0", "port": 8002 }],
			"hostnames": ["localhost", "localhost:8002"],
			"routes": [
				{
					"req_path": "/",
					"type": "reverse_proxy",
					"upstreams": ["localhost:3000", "localhost:3001"],
					"load_balancing": "ip_hash"
				}
			]
		}
	]
}"#;

#[test]
fn the_originals_files_are_read_unchanged() {
    let file = parse(ORIGINAL).unwrap();
    assert_eq!((file.server_name.as_str(), file.workers, file.servers.len()), ("eXpServer", Some(4), 2));
    let [first, second] = file.servers.as_slice() else { panic!("there are two") };
    assert_eq!(first.listeners[0].place, Place::Tcp([0, 0, 0, 0].into(), 8001));
    let kinds: Vec<RouteKind> = first.routes.iter().map(|route| route.kind).collect();
    assert_eq!(kinds, [RouteKind::FileServe, RouteKind::Redirect, RouteKind::Metrics]);
    let files = &first.routes[0].files;
    assert_eq!(
        (files.compresses(), files.gzip_level(), files.index.as_slice()),
        (true, None, &["index.html".into()][..])
    );
    let group = &second.routes[0].proxy.group;
    assert_eq!(group.load_balancing, LoadBalancing::IpHash);
    assert_eq!(group.upstreams[1].address.to_string(), "localhost:3001");
    assert_eq!((group.upstreams[1].weight, group.upstreams[1].backup), (1, false));
}

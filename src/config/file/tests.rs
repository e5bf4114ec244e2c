//! Tests of whole configuration files: what they are read as, and which problems are reported.

use super::*;

/// The structure of eXpServer's own files.
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
    assert_eq!((file.server_name.0.as_str(), file.workers, file.servers.len()), ("eXpServer", Some(4), 2));
    let [first, second] = file.servers.as_slice() else { panic!("there are two") };
    assert_eq!(first.listeners[0].target, ListenTarget::Tcp([0, 0, 0, 0].into(), 8001));
    let kinds: Vec<RouteKind> = first.routes.iter().map(|route| route.kind).collect();
    assert_eq!(kinds, [RouteKind::FileServe, RouteKind::Redirect, RouteKind::Metrics]);
    let files = &first.routes[0].files;
    assert_eq!((files.compresses(), files.gzip_level(), files.index[0].0.as_str()), (true, None, "index.html"));
    let group = &second.routes[0].proxy.group;
    assert_eq!(group.load_balancing, LoadBalancing::IpHash);
    assert_eq!(group.upstreams[1].address.to_string(), "localhost:3001");
    assert_eq!((group.upstreams[1].weight, group.upstreams[1].backup), (1, false));
}

/// The first line of each problem, without the line of the file.
fn said(text: &str) -> Vec<String> {
    let problems = parse(text).map(|_| ()).unwrap_err();
    problems.iter().map(|problem| problem.to_string().lines().next().unwrap_or_default().to_owned()).collect()
}

/// A file with a server that has these routes, which begin on line 2.
fn with_routes(routes: &str) -> String {
    format!("{{ \"servers\": [{{ \"listeners\": [{{ \"port\": 80 }}], \"routes\": [\n{routes}\n] }}] }}")
}

/// Each case is an invalid file and its only problem.
fn assert_said(cases: &[(&str, &str)], around: impl Fn(&str) -> String) {
    for (text, expected) in cases {
        assert_eq!(said(&around(text)), [*expected], "{text}");
    }
}

#[test]
fn everything_is_told_at_once_and_in_order() {
    let text = r#"{
  "workers": "4",
  "servers": [
    {
      "listeners": [{ "host": "localhost", "port": 80800 }],
      "routes": [
        {
          "req_path": "api",
          "type": "reverse-proxy",
          "gzip_enabled": true, // one letter too many
        },
      ],
    },
  ],
}"#;
    let problems = parse(text).unwrap_err();
    let shown: Vec<String> = problems.iter().map(|problem| problem.in_file("xps_config.json").to_string()).collect();
    assert_eq!(
        shown,
        [
            r#"xps_config.json:2:14: `workers` must be a whole number, not text (write 4, without quotes)
  |
2 |   "workers": "4",
  |              ^^^"#,
            r#"xps_config.json:5:52: `port` must be from 0 to 65535
  |
5 |       "listeners": [{ "host": "localhost", "port": 80800 }],
  |                                                    ^^^^^"#,
            r#"xps_config.json:8:23: `req_path`, `api`: a path must begin with `/`
  |
8 |           "req_path": "api",
  |                       ^^^^^"#,
            r#"xps_config.json:9:19: `type` must be one of file_serve, reverse_proxy, redirect, metrics, api, not `reverse-proxy` (did you mean `reverse_proxy`?)
  |
9 |           "type": "reverse-proxy",
  |                   ^^^^^^^^^^^^^^^"#,
            r#"xps_config.json:10:11: unknown key `gzip_enabled` (did you mean `gzip_enable`?)
   |
10 |           "gzip_enabled": true, // one letter too many
   |           ^^^^^^^^^^^^^^"#,
        ]
    );
}

#[test]
fn comments_trailing_commas_and_a_byte_order_mark_are_no_offence() {
    let text = "\u{feff}// servers\n{ \"servers\": [{ /* one */ \"listeners\": [{ \"port\": 0, },], },], }";
    assert_eq!(parse(text).map(|file| file.servers.len()), Ok(1));
}

#[test]
fn of_faults_in_the_syntax_the_first_is_told() {
    assert_said(
        &[
            ("", "1:1: the file is empty (write an object with `servers`)"),
            ("{\n \"servers\": [\n", "2:13: unterminated array (its `]` is missing)"),
            ("{ 'a': 1 }", "1:3: single-quoted strings are not allowed (write text in double quotes)"),
            ("{ a: 1 }", "1:3: expected string for object property (write keys in double quotes)"),
            ("{ \"a\": 1 \"b\": 2 }", "1:9: expected comma"),
            ("{} {}", "1:4: text cannot contain more than one JSON value"),
        ],
        str::to_owned,
    );
}

#[test]
fn wrong_shapes_are_told() {
    assert_said(
        &[
            ("[]", "1:1: the file must be an object, `{ … }`, not a list"),
            ("{}", "1:1: missing key `servers`"),
            (r#"{ "servers": [] }"#, "1:14: `servers` is empty, but needs at least one element"),
            (r#"{ "servers": [1] }"#, "1:15: an element of `servers` must be an object, `{ … }`, not a number"),
            (
                r#"{ "servers": [{ "listeners": [{ "port": 1 }], "dir_path": "." }] }"#,
                "1:47: unknown key `dir_path` (it belongs in each of `routes`)",
            ),
            (
                r#"{ "servers": [{ "listeners": [{ "port": 1 }], "workers": 1 }] }"#,
                "1:47: unknown key `workers` (it belongs at the top level, beside `servers`)",
            ),
            (
                r#"{ "servers": [{ "listen": 80, "listeners": [{ "port": 1 }] }] }"#,
                "1:17: unknown key `listen` (use `listeners`)",
            ),
            (r#"{ "servers": [{ "listeners": [{ "port": 1 }], "xyzzy": 1 }] }"#, "1:47: unknown key `xyzzy`"),
            (
                "{ \"servers\": [{ \"listeners\": [{ \"port\": 1,\n\"port\": 2 }] }] }",
                "2:1: duplicate key `port`; the first is on line 1",
            ),
            (
                r#"{ "servers": [{ "listeners": [{ "host": "a", "port": 1 }] }] }"#,
                "1:41: `host`, `a`: not a listen address: write, for example, 0.0.0.0, 127.0.0.1, :: or localhost",
            ),
        ],
        str::to_owned,
    );
}

#[test]
fn wrong_values_are_told() {
    let around = |line: &str| format!("{{ \"servers\": [{{ \"listeners\": [{{ \"port\": 1 }}] }}],\n{line} }}");
    assert_said(
        &[
            (r#""workers": 1.5"#, "2:12: `workers` must be a whole number"),
            (r#""workers": 4e0"#, "2:12: `workers` must be written in digits only, and be below 2^64"),
            (
                r#""burst": -0, "requests_per_second": 1"#,
                "2:10: `burst` must be written in digits only, and be below 2^64",
            ),
            (r#""workers": 0"#, "2:12: `workers` must be from 1 to 1024"),
            (r#""max_connections": 4294967296"#, "2:20: `max_connections` must be from 0 to 4294967295"),
            (r#""max_connections": 99999999999999999999"#, "2:20: `max_connections` must be from 0 to 4294967295"),
            (r#""pin_workers": 1"#, "2:16: `pin_workers` must be true or false, not a number"),
            (
                r#""limits": { "idle_timeout": "5 minutes" }"#,
                "2:29: `idle_timeout`, `5 minutes`: not a time: write a number with ms, s, m, h or d, for example 30s",
            ),
            (
                r#""limits": { "idle_timeout": true }"#,
                "2:29: `idle_timeout` must be text such as \"30s\" or a number, not a boolean",
            ),
            (r#""limits": { "idle_timeout": "400d" }"#, "2:29: `idle_timeout` must be from 0s to 365d"),
            (r#""limits": { "idle_timeout": 1e999 }"#, "2:29: `idle_timeout` is not a number, or is too large"),
            (
                r#""limits": { "pipe_bytes_max": "64q" }"#,
                "2:31: `pipe_bytes_max`, `64q`: not a size: write a number with k, m or g, for example 64k",
            ),
            (r#""limits": { "pipe_bytes_max": "0k" }"#, "2:31: `pipe_bytes_max` must be at least 1"),
            (r#""limits": { "pipe_bytes_max": -1 }"#, "2:31: `pipe_bytes_max` must be at least 1"),
            (
                r#""limits": { "pipe_bytes_max": 99999999999999999999 }"#,
                "2:31: `pipe_bytes_max` must be written in digits only, and be below 2^64",
            ),
            (r#""limits": { "http": { "head_bytes_max": "65k" } }"#, "2:41: `head_bytes_max` must be from 1 to 65536"),
            (r#""limits": { "http": { "fields_max": 101 } }"#, "2:37: `fields_max` must be from 1 to 100"),
            (
                r#""limits": { "http": { "request_line_bytes_max": 65537 } }"#,
                "2:49: `request_line_bytes_max` must be from 1 to 65536",
            ),
            (r#""limits": { "http2": { "streams_max": 0 } }"#, "2:39: `streams_max` must be from 1 to 10000"),
            (
                r#""limits": { "http2": { "stream_window": "8k" } }"#,
                "2:41: `stream_window` must be from 16384 to 16777216",
            ),
            (
                r#""limits": { "http2": { "connection_window": "2g" } }"#,
                "2:45: `connection_window` must be from 65536 to 2147483647",
            ),
            (
                r#""limits": { "http": { "streams_max": 5 } }"#,
                "2:23: unknown key `streams_max` (it belongs in `limits.http2`)",
            ),
            (r#""limits": { "pool": { "small_bytes": "5k" } }"#, "2:38: `small_bytes` must be a multiple of 4096"),
            (
                r#""trusted_proxies": ["10.0.0.1/8"]"#,
                "2:21: an element of `trusted_proxies`, `10.0.0.1/8`: host bits are set: the network is 10.0.0.0/8",
            ),
            (
                r#""uring_off": ["sendfile"]"#,
                "2:15: an element of `uring_off`, `sendfile`: no such feature; the features are defer-taskrun, no-sqarray, registered-ring, accept-poll-first, accept-multishot, recv-multishot, buffer-ring, large-buffers, ring-open, ring-close, ring-connect",
            ),
            (r#""burst": 5"#, "2:1: `burst` has no effect without `requests_per_second`"),
            (
                r#""server_name": "a\r\nb""#,
                "2:16: `server_name`, `a\u{fffd}\u{fffd}b`: not a field value: it contains a control character",
            ),
        ],
        around,
    );
}

#[test]
fn routes_without_what_they_need_are_told() {
    assert_said(
        &[
            (r#"{ "type": "metrics" }"#, "2:1: missing key `req_path`"),
            (r#"{ "req_path": "/", "type": "file_serve" }"#, "2:28: a `file_serve` route needs a `dir_path`"),
            (r#"{ "req_path": "/", "type": "reverse_proxy" }"#, "2:28: this needs `upstreams`"),
            (
                r#"{ "req_path": "/", "type": "reverse_proxy", "upstreams": [] }"#,
                "2:58: `upstreams` is empty, but needs at least one element",
            ),
            (
                r#"{ "req_path": "/", "type": "reverse_proxy", "upstreams": ["a"] }"#,
                "2:59: an element of `upstreams`, `a`: no port: write HOST:PORT, for example 127.0.0.1:3000 or [::1]:3000",
            ),
            (
                r#"{ "req_path": "/", "type": "reverse_proxy", "upstreams": [{ "addres": "a:1" }] }"#,
                "2:61: unknown key `addres` (did you mean `address`?)",
            ),
            (r#"{ "req_path": "/", "type": "redirect" }"#, "2:28: a `redirect` route needs a `redirect_url`"),
            (
                r#"{ "req_path": "/", "type": "redirect", "redirect_url": "x.org" }"#,
                "2:56: `redirect_url`, `x.org`: not a redirect target: write https://HOST/PATH or /PATH",
            ),
            (
                r#"{ "req_path": "/", "type": "redirect", "redirect_url": "/a", "http_status_code": 200 }"#,
                "2:82: not a redirect status (permanent: 301, 308; temporary: 302, 303, 307)",
            ),
            (
                "{ \"req_path\": \"/\", \"type\": \"metrics\" },\n{ \"req_path\": \"/\", \"type\": \"metrics\" }",
                "3:15: duplicate route for `/`; the first is on line 2",
            ),
            (
                "{ \"req_path\": \"/a b\", \"type\": \"metrics\" }",
                "2:15: `req_path`, `/a b`: write a space in a path as %20",
            ),
            (
                "{ \"req_path\": \"/a/b\", \"type\": \"metrics\" },\n{ \"req_path\": \"/%61//b/\", \"type\": \"metrics\" }",
                "3:15: duplicate route for `/%61//b/`; the first is on line 2",
            ),
        ],
        with_routes,
    );
}

#[test]
fn options_that_mean_nothing_are_told() {
    assert_said(
        &[
            (
                r#"{ "req_path": "/", "type": "metrics", "listing": true }"#,
                "2:39: `listing` has no effect in a `metrics` route; it is an option of `file_serve`",
            ),
            (
                r#"{ "req_path": "/", "type": "file_serve", "dir_path": ".", "upgrade": true }"#,
                "2:59: `upgrade` has no effect in a `file_serve` route; it is an option of `reverse_proxy`",
            ),
            (
                r#"{ "req_path": "/", "type": "file_serve", "dir_path": ".", "compression": true, "gzip_enable": true }"#,
                "2:80: `gzip_enable` and `compression` cannot be used together",
            ),
            (
                r#"{ "req_path": "/", "type": "reverse_proxy", "upstreams": ["a:1"], "headers": {} }"#,
                "2:67: `headers` has no effect in a `reverse_proxy` route; it is an option of `file_serve` (use `response_headers`)",
            ),
            (
                r#"{ "req_path": "/", "type": "file_serve", "dir_path": ".", "headers": { "set": { "date": "x" } } }"#,
                "2:81: `date` is set by xps and cannot be changed",
            ),
            (
                r#"{ "req_path": "/", "type": "file_serve", "dir_path": ".", "headers": { "set": { "Content-Length": "5" } } }"#,
                "2:81: `Content-Length` is set by xps and cannot be changed",
            ),
            (
                r#"{ "req_path": "/", "type": "reverse_proxy", "upstreams": ["a:1"], "request_headers": { "set": { "host": "a" } } }"#,
                "2:97: `host` is set by xps and cannot be changed (use the option `host` of the route)",
            ),
            (
                r#"{ "req_path": "/", "type": "file_serve", "dir_path": ".", "headers": { "set": { "A B": "5" } } }"#,
                "2:81: `A B`: not a token: only letters, digits and -._~!#$%&'*+^`| are allowed",
            ),
            (
                r#"{ "req_path": "/", "type": "file_serve", "dir_path": ".", "error_pages": { "200": "x" } }"#,
                "2:76: `200`: not an error status: write 400 to 599",
            ),
        ],
        with_routes,
    );
}

#[test]
fn what_choosing_an_upstream_needs_is_told() {
    let around =
        |options: &str| with_routes(&format!("{{ \"req_path\": \"/a\", \"type\": \"reverse_proxy\",\n{options} }}"));
    assert_said(
        &[
            (
                r#""upstreams": ["a:1"], "load_balancing": "header_hash""#,
                "3:41: `header_hash` needs `hash_header`, the field to hash",
            ),
            (
                r#""upstreams": ["a:1"], "hash_header": "X""#,
                "3:23: `hash_header` has no effect without `\"load_balancing\": \"header_hash\"`",
            ),
            (
                r#""upstreams": ["a:1"], "client_cert_header": "X-Real-IP""#,
                "3:45: the field `X-Real-IP` has another meaning (choose one of your own, for example `X-Client-Subject`)",
            ),
            (
                r#""upstreams": ["a:1"], "client_cert_header": "X-S", "request_headers": { "set": { "x-s": "y" } }"#,
                "3:82: `X-S` is the field of `client_cert_header` and cannot be changed",
            ),
            (
                r#""upstreams": ["a:1"], "upstream_tls": { "verify": false }"#,
                "3:23: `upstream_tls` has no effect without an upstream that begins with `https://`",
            ),
            (
                r#""upstreams": ["a:1", "a:1"]"#,
                "3:22: duplicate upstream; the first is on line 3 (use `weight` for a larger share)",
            ),
            (
                r#""upstreams": [{ "address": "a:1", "backup": true }]"#,
                "3:1: all upstreams are backups; at least one must not be",
            ),
            (
                r#""upstreams": [{ "address": "a:1", "weight": 2 }]"#,
                "3:35: `weight` has no effect with `round_robin` (use `\"load_balancing\": \"weighted_round_robin\"`)",
            ),
            (
                r#""upstreams": ["a:1"], "load_balancing": "leastconn2""#,
                "3:41: `load_balancing` must be one of round_robin, weighted_round_robin, least_conn, random_two, ip_hash, header_hash, path_hash, sticky_cookie, not `leastconn2` (did you mean `least_conn`?)",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "path": "/up" } }"#,
                "3:53: `path` has no effect without `\"type\": \"http\"`",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "host": "b" } }"#,
                "3:53: `host` has no effect without `\"type\": \"http\"`",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "type": "http", "host": "http://b" } }"#,
                "3:77: `host`, `http://b`: not a host: write, for example, app.example.org or app.example.org:8080",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "type": "http", "headers": { "Host": "b" } } }"#,
                "3:82: `Host` is set by xps and cannot be changed (use the option `host` of the check)",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "type": "http", "headers": { "X-A": " b" } } }"#,
                "3:89: `X-A`, ` b`: not a field value: it is empty, or has white space at either end",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "type": "http", "method": "get" } }"#,
                "3:79: `method` must be one of GET, HEAD, not `get` (did you mean `GET`?)",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "type": "http", "method": "HEAD", "body": "ok" } }"#,
                "3:87: a response to HEAD has no body (use `\"method\": \"GET\"`)",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "type": "http", "status": ["2xx", "399-300"] } }"#,
                "3:87: an element of `status`, `399-300`: the range ends before it begins: write 300-399",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "type": "http", "status": 101 } }"#,
                "3:79: `status` must be from 200 to 599",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "type": "http", "status": [] } }"#,
                "3:79: `status` is empty, but needs at least one element",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "type": "http", "stauts": 200 } }"#,
                "3:69: unknown key `stauts` (did you mean `status`?)",
            ),
            (
                r#""upstreams": ["a:1"], "health_check": { "active": { "interval": 0 } }"#,
                "3:65: `interval` must be from 1ms to 365d",
            ),
            (r#""upstreams": ["a:1"], "strip_prefix": "/b""#, "3:39: no path beneath `/a` begins with `/b`"),
        ],
        around,
    );
}

#[test]
fn listeners_that_cannot_be_are_told() {
    let around = |servers: &str| format!("{{ \"servers\": [\n{servers}\n] }}");
    assert_said(
        &[
            (r#"{ "listeners": [{}] }"#, "2:17: a listener needs `port` or `unix`"),
            (
                r#"{ "listeners": [{ "unix": "/s", "port": 1 }] }"#,
                "2:33: a listener has either `port` or `unix`, not both",
            ),
            (r#"{ "listeners": [{ "port": 1, "mode": "0600" }] }"#, "2:30: `mode` has no effect without `unix`"),
            (
                r#"{ "listeners": [{ "unix": "/s", "mode": "0888" }] }"#,
                "2:41: `mode`, `0888`: not permissions: write them in octal, for example 0660",
            ),
            (
                r#"{ "listeners": [{ "port": 1 }, { "host": "*", "port": 1 }] }"#,
                "2:32: duplicate listener; this server already has it on line 2",
            ),
            (
                "{ \"listeners\": [{ \"port\": 1 }] },\n{ \"listeners\": [{ \"port\": 1 }] }",
                "3:17: no request reaches this server: the server with this listener on line 2 has no `hostnames` either",
            ),
            (
                "{ \"listeners\": [{ \"port\": 1 }], \"hostnames\": [\"a.b\"] },\n{ \"listeners\": [{ \"port\": 1 }], \"hostnames\": [\"A.b.\"] }",
                "3:17: host name `a.b` belongs to the server with this listener on line 2",
            ),
            (
                "{ \"listeners\": [{ \"port\": 1 }] },\n{ \"listeners\": [{ \"port\": 1 }], \"protocol\": \"tcp\", \"handler\": \"echo\" }",
                "3:17: another server has this listener on line 2; only HTTP servers, or TCP proxies, can share one",
            ),
            (
                r#"{ "listeners": [{ "port": 1, "accept_proxy_protocol": true }] }"#,
                "2:30: `accept_proxy_protocol` needs `trusted_proxies` (add the networks of the proxies beside `servers`, for example `\"trusted_proxies\": [\"10.0.0.0/8\"]`)",
            ),
            (
                r#"{ "listeners": [{ "port": 1 }], "hostnames": ["a", "A"] }"#,
                "2:52: duplicate host name `a`; the first is on line 2",
            ),
        ],
        around,
    );
}

#[test]
fn tls_that_cannot_be_is_told() {
    let around = |servers: &str| format!("{{ \"servers\": [\n{servers}\n] }}");
    // A server with a listener on port 1 that has these options.
    let one = |options: &str| format!(r#"{{ "listeners": [{{ "port": 1{options} }}] }}"#);
    let two = |first: &str, second: &str| {
        let named = r#"{ "listeners": [{ "port": 1 }], "hostnames": ["a"] }"#.replace("1 }", &format!("1{second} }}"));
        format!("{},\n{named}", one(first))
    };
    let with = |options: &str| format!(r#", "tls": {{ "certificates": [{{ "cert": "c" }}]{options} }}"#);
    let shared = |reason: &str| format!("3:17: this listener has {reason}");
    for (servers, expected) in [
        (one(r#", "tls": {}"#), "2:37: missing key `certificates` or `acme`".to_owned()),
        (
            one(r#", "tls": { "certificates": [] }"#),
            "2:55: `certificates` is empty, but needs at least one element".to_owned(),
        ),
        (one(r#", "tls": { "certificates": [{ "key": "k" }] }"#), "2:56: missing key `cert`".to_owned()),
        (
            one(r#", "tls": { "certificates": [{ "cert": "c", "ssl_certificate_key": "k" }] }"#),
            "2:71: unknown key `ssl_certificate_key` (use `key`)".to_owned(),
        ),
        (
            one(&with(r#", "min_version": "1.1""#)),
            "2:89: `min_version` must be one of 1.2, 1.3, not `1.1` (did you mean `1.2`?)".to_owned(),
        ),
        (one(&with(r#", "client_auth": { "mode": "require" }"#)), "2:89: missing key `ca`".to_owned()),
        (
            one(&with(r#", "alpn": ["h3", "http/1.1"]"#)),
            "2:83: `h3` is not spoken here (HTTP servers speak h2, http/1.1, http/1.0)".to_owned(),
        ),
        (
            one(&with(r#", "alpn": [""]"#)),
            "2:83: an element of `alpn`, ``: not the name of a protocol: write, for example, http/1.1".to_owned(),
        ),
        (
            r#"{ "listeners": [{ "port": 1 }], "tls": {} }"#.to_owned(),
            "2:33: unknown key `tls` (it belongs in each of `listeners`)".to_owned(),
        ),
        (two(&with(""), ""), shared("`tls` on line 2, and here it has not")),
        (two("", &with("")), shared("no `tls` on line 2")),
        (
            two(&with(""), &with(r#", "min_version": "1.3""#)),
            shared("other `tls` options on line 2; only `certificates` and `acme` may differ"),
        ),
        (
            two(&with(r#", "client_auth": { "ca": "x" }"#), &with("")),
            shared("other `tls` options on line 2; only `certificates` and `acme` may differ"),
        ),
    ] {
        assert_eq!(said(&around(&servers)), [expected], "{servers}");
    }
    // An option that is written as it is by default is no other.
    for options in ["", r#", "tickets": true"#, r#", "min_version": "1.2""#] {
        assert!(parse(&around(&two(&with(""), &with(options)))).is_ok(), "{options}");
    }
    let options = with(r#", "alpn": ["postgresql"]"#);
    let tcp = one(&options).replace("}] }", r#"}], "protocol": "tcp", "handler": "echo" }"#);
    assert!(parse(&around(&tcp)).is_ok(), "{tcp}");
}

#[test]
fn certificates_that_cannot_be_obtained_are_told() {
    let around = |servers: &str| format!("{{ \"servers\": [\n{servers}\n] }}");
    let plain = r#",{ "listeners": [{ "port": 80 }] }"#;
    let one = |tls: &str, names: &str| {
        format!(r#"{{ "listeners": [{{ "port": 443, "tls": {{ {tls} }} }}], "hostnames": [{names}] }}"#)
    };
    let acme = |options: &str| one(&format!(r#""acme": {{ {options} }}"#), r#""a.org""#);
    let wild =
        "certificates for `*.` cannot be obtained: authorities give them by changes in DNS only; write each name";
    let http = "`http-01` needs an HTTP server with a listener without `tls`, on port 80";
    for (servers, expected) in [
        (
            acme(r#""domains": ["*.a.org"]"#),
            format!("2:63: an element of `domains`, `*.a.org`: {wild}"),
        ),
        (
            acme(r#""domains": ["127.0.0.1"]"#),
            "2:63: an element of `domains`, `127.0.0.1`: certificates for IP addresses cannot be obtained: write a host name"
                .to_owned(),
        ),
        (acme(r#""domains": []"#), "2:62: `domains` is empty, but needs at least one element".to_owned()),
        (
            acme(r#""domains": ["intranet"]"#),
            "2:63: Let's Encrypt issues no certificate for `intranet` (a private authority has a `directory` of its own)"
                .to_owned(),
        ),
        (
            one(r#""acme": {}"#, ""),
            "2:49: `acme` has no host name to obtain a certificate for (add `domains`, or `hostnames` beside \
             `listeners`)"
                .to_owned(),
        ),
        (
            one(r#""acme": {}"#, r#""a.org", "*.a.org""#),
            format!(
                "2:81: no certificate for `*.a.org`: {wild} (name the `domains` of `acme`, which may be others than the \
                 `hostnames`)"
            ),
        ),
        (
            acme(r#""directory": "http://ca/""#),
            "2:64: `directory`, `http://ca/`: not the URL of a directory: write, for example, \
             https://acme.example.org/directory"
                .to_owned(),
        ),
        (
            acme(r#""email": "a""#),
            "2:60: `email`, `a`: not an address for mail: write, for example, admin@example.org".to_owned(),
        ),
        (acme(r#""challenge": "http-01""#), format!("2:64: {http}")),
        (
            one(r#""acme": { "challenge": "tls-alpn-01" }, "client_auth": { "ca": "c" }"#, r#""a.org""#) + plain,
            "2:64: `tls-alpn-01` cannot be answered by a listener that requires certificates of clients".to_owned(),
        ),
        (
            one(r#""acme": {}, "alpn": []"#, r#""a.org""#),
            format!("2:49: `tls-alpn-01` needs `alpn` on the listener ({http})"),
        ),
    ] {
        assert_eq!(said(&around(&servers)), [expected], "{servers}");
    }
    for well in [
        acme(""),
        acme(r#""challenge": "http-01""#) + plain,
        one(r#""acme": { "domains": ["intranet"], "directory": "https://ca/dir" }"#, ""),
        one(r#""acme": {}, "certificates": [{ "cert": "c" }]"#, r#""a.org""#),
    ] {
        assert!(parse(&around(&well)).is_ok(), "{well}");
    }
}

#[test]
fn what_belongs_to_https_and_has_no_effect_is_told() {
    let around = |server: &str| format!("{{ \"servers\": [\n{server}\n] }}");
    let tls = r#""tls": { "certificates": [{ "cert": "c" }] }"#;
    for (server, expected) in [
        (
            r#"{ "listeners": [{ "port": 1 }], "hsts": {} }"#.to_owned(),
            "2:33: `hsts` has no effect without a listener that has `tls`",
        ),
        (
            format!(r#"{{ "listeners": [{{ "port": 1, "redirect_to_https": 8443, {tls} }}] }}"#),
            "2:30: `redirect_to_https` has no effect with `tls` (it belongs on the listener without TLS)",
        ),
        (
            r#"{ "listeners": [{ "port": 1, "redirect_to_https": true }], "protocol": "tcp", "handler": "echo" }"#
                .to_owned(),
            "2:30: `redirect_to_https` has no effect in a TCP server",
        ),
        (
            format!(r#"{{ "listeners": [{{ "port": 1, "h2c": true, {tls} }}] }}"#),
            "2:30: `h2c` has no effect with `tls` (over TLS, `alpn` offers HTTP/2)",
        ),
        (
            r#"{ "listeners": [{ "port": 1, "h2c": true }], "protocol": "tcp", "handler": "echo" }"#.to_owned(),
            "2:30: `h2c` has no effect in a TCP server",
        ),
        (
            "{ \"listeners\": [{ \"port\": 1, \"h2c\": true }] },\n{ \"listeners\": [{ \"port\": 1 }], \"hostnames\": [\"a\"] }"
                .to_owned(),
            "3:17: this listener has other options on line 2",
        ),
        (
            r#"{ "listeners": [{ "port": 1, "redirect_to_https": 0 }] }"#.to_owned(),
            "2:51: `redirect_to_https` must be from 1 to 65535",
        ),
        (
            r#"{ "listeners": [{ "port": 1, "redirect_to_https": "yes" }] }"#.to_owned(),
            "2:51: `redirect_to_https` must be true or false or a whole number, not text",
        ),
    ] {
        assert_eq!(said(&around(&server)), [expected], "{server}");
    }
    let well = format!(
        r#"{{ "listeners": [{{ "port": 1, "redirect_to_https": 8443 }}, {{ "port": 2, "redirect_to_https": false, {tls} }}],
             "hsts": {{ "max_age": "30d" }} }}"#
    );
    let file = parse(&around(&well)).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let written = serde_json::to_string(&file).unwrap();
    let read: File = serde_json::from_str(&written).unwrap();
    assert_eq!(read.servers[0].listeners, file.servers[0].listeners, "what the model writes it reads again");
    assert_eq!(file.servers[0].hsts.as_ref().map(Hsts::field).as_deref(), Some("max-age=2592000"));
    let all = Hsts { include_subdomains: true, preload: true, ..Hsts::default() };
    assert_eq!(all.field(), "max-age=31536000; includeSubDomains; preload");
}

#[test]
fn servers_that_speak_tcp_want_a_handler_and_its_options() {
    let around =
        |options: &str| format!("{{ \"servers\": [\n{{ \"listeners\": [{{ \"port\": 1 }}], {options} }}\n] }}");
    assert_said(
        &[
            (r#""protocol": "tcp""#, "2:1: a TCP server needs a `handler` (echo, reverse, tcp_proxy or send_file)"),
            (r#""handler": "echo""#, "2:33: `handler` has no effect in an HTTP server (add `\"protocol\": \"tcp\"`)"),
            (r#""protocol": "tcp", "handler": "echo", "routes": []"#, "2:71: `routes` has no effect in a TCP server"),
            (r#""protocol": "tcp", "handler": "tcp_proxy""#, "2:63: this needs `upstreams`"),
            (r#""protocol": "tcp", "handler": "send_file""#, "2:63: `send_file` needs a `file`"),
            (
                r#""protocol": "tcp", "handler": "echo", "file": "x""#,
                "2:71: `file` has no effect with this handler; it is an option of `send_file`",
            ),
            (
                r#""protocol": "tcp", "handler": "tcp_proxy", "upstreams": ["a:1"], "load_balancing": "path_hash""#,
                "2:116: `path_hash` needs HTTP requests, which a `tcp_proxy` does not parse",
            ),
        ],
        around,
    );
}

#[test]
fn tcp_proxies_share_a_listener_by_name() {
    let server = |options: &str| {
        format!(
            r#"{{ "listeners": [{{ "port": 1 }}], "protocol": "tcp", "handler": "tcp_proxy", "upstreams": ["a:1"]{options} }}"#
        )
    };
    let all = |servers: &[String]| format!("{{ \"servers\": [\n{}\n] }}", servers.join(",\n"));
    let named = |name: &str| server(&format!(r#", "hostnames": ["{name}"]"#));
    assert!(parse(&all(&[named("a.org"), named("*.a.org"), server("")])).is_ok());
    let tls = r#""port": 1, "tls": { "certificates": [{ "cert": "c" }] }"#;
    for (servers, expected) in [
        (
            [server(""), server("")],
            "3:17: no connection reaches this server: the server with this listener on line 2 has no `hostnames` either",
        ),
        (
            [named("a.org"), named("A.org")],
            "3:17: host name `a.org` belongs to the server with this listener on line 2",
        ),
        (
            [named("a.org"), r#"{ "listeners": [{ "port": 1 }], "hostnames": ["b.org"] }"#.to_owned()],
            "3:17: another server has this listener on line 2; only HTTP servers, or TCP proxies, can share one",
        ),
        (
            [server(""), named("a.org:443").replace("\"port\": 1", "\"port\": 2")],
            "3:112: the name that a TLS client asks for has no port",
        ),
        (
            [server(""), named("a.org").replace("\"port\": 1", tls).replace("\"port\": 1", "\"port\": 2")],
            "3:30: `tls` cannot be used with `hostnames` in a TCP server (`hostnames` in a TCP server pass TLS on to the upstreams, as it is)",
        ),
        (
            [server(""), named("a.org").replace("a:1", "https://a:1").replace("\"port\": 1", "\"port\": 2")],
            "3:90: what is passed on is encrypted already (write it without https://)",
        ),
        (
            [
                server(""),
                r#"{ "listeners": [{ "port": 2 }], "protocol": "tcp", "handler": "echo", "hostnames": ["a.org"] }"#
                    .to_owned(),
            ],
            "3:71: `hostnames` has no effect with this handler; only `tcp_proxy` is chosen by name",
        ),
    ] {
        assert_eq!(said(&all(&servers)), [expected]);
    }
}

#[test]
fn what_is_possible_is_read() {
    let text = r#"{
        "$schema": "./xps.schema.json",
        "trusted_proxies": ["10.0.0.0/8"],
        "access_log": "off",
        "limits": { "idle_timeout": "1m30s", "connect_timeout": 0.25, "http": { "head_bytes_max": 16384 },
            "http2": { "stream_window": "1m", "overhead_bytes": "2m" } },
        "servers": [
            { "listeners": [{ "port": 0 }, { "port": 0 }], "protocol": "tcp", "handler": "echo" },
            {
                "listeners": [{ "unix": "/run/xps.sock", "mode": "0660" }],
                "protocol": "tcp",
                "handler": "tcp_proxy",
                "upstreams": ["unix:/run/app.sock", { "address": "[::1]:5432", "backup": true, "max_connections": 9 }],
                "load_balancing": "least_conn",
                "send_proxy_protocol": "v2"
            },
            {
                "listeners": [{ "host": "::", "port": 8080, "accept_proxy_protocol": true }],
                "hostnames": ["*.example.org"],
                "routes": [{
                    "req_path": "/api",
                    "type": "reverse_proxy",
                    "upstreams": [{ "address": "app:80", "weight": 3 }],
                    "load_balancing": "weighted_round_robin",
                    "health_check": {
                        "active": {
                            "type": "http", "path": "/up?full=1", "host": "app.example.org:8080", "method": "GET",
                            "headers": { "X-A": ["1", "2"] }, "status": [204, "3xx", "400-404"], "body": "ok"
                        },
                        "passive": { "failures": 0 }
                    },
                    "strip_prefix": "/api",
                    "via": "off",
                    "connect_timeout": null,
                    "request_headers": { "set": { "X-A": "1" }, "add": { "X-B": ["2", "3"] }, "remove": ["Cookie"] }
                }]
            },
            { "listeners": [{ "host": "::", "port": 8080, "accept_proxy_protocol": true }] }
        ]
    }"#;
    let file = parse(text).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let limits = crate::config::Limits::from(&file.limits);
    assert_eq!((limits.idle_timeout.as_secs(), limits.connect_timeout.as_millis()), (90, 250));
    assert_eq!((limits.http.head.head_bytes_max, limits.backlog), (16384, Limits::default().backlog));
    let http2 = crate::config::Http2Limits::default();
    let expected = crate::config::Http2Limits { stream_window: 1 << 20, overhead_bytes: 2 << 20, ..http2 };
    assert_eq!(limits.http.http2, expected);
    assert_eq!(file.access_log, AccessLog { path: AccessTarget::Off, ..AccessLog::default() });
    let ListenTarget::Unix { path, mode } = &file.servers[1].listeners[0].target else { panic!("it is a path") };
    assert_eq!((path.to_str(), *mode), (Some("/run/xps.sock"), Some(FileMode(0o660))));
    let group = &file.servers[1].tcp.group;
    assert_eq!(group.upstreams[0].address, UpstreamAddressText("unix:/run/app.sock".parse().unwrap()));
    assert_eq!((group.upstreams[1].backup, group.upstreams[1].max_connections), (true, 9));
    let proxy = &file.servers[2].routes[0].proxy;
    assert_eq!((&proxy.via, proxy.group.connect_timeout, proxy.upgrade), (&Via::Off, None, true));
    let active = proxy.group.health_check.active.as_ref().expect("an active check");
    let statuses: Vec<String> = active.status.ranges().iter().map(ToString::to_string).collect();
    assert_eq!(statuses, ["204", "3xx", "400-404"]);
    assert_eq!((&active.host, active.body.as_deref()), (&Some(HostField("app.example.org:8080".into())), Some("ok")));
    let added: Vec<&str> = proxy.request_headers.add.values().flat_map(FieldValues::iter).collect();
    assert_eq!(added, ["2", "3"]);
}

#[test]
fn what_the_model_writes_it_reads_again() {
    let file = parse(ORIGINAL).unwrap();
    let written = serde_json::to_string(&file).unwrap();
    let read: File = serde_json::from_str(&written).unwrap();
    assert_eq!(format!("{read:?}"), format!("{file:?}"));
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }

        /// A valid file with a part moved or replaced.
        #[test]
        fn no_mistake_makes_it_panic(from in 0..ORIGINAL.len(), length in 0..40_usize, to in 0..ORIGINAL.len(), other in "[\\[\\]{}:,\"0-9a-zé\n/*-]{0,8}") {
            let end = (from + length).min(ORIGINAL.len());
            let moved = format!("{}{other}{}{}", &ORIGINAL[..to], &ORIGINAL[from..end], &ORIGINAL[to..]);
            let without = format!("{}{other}{}", &ORIGINAL[..from], &ORIGINAL[end..]);
            for text in [moved, without] {
                if let Err(problems) = parse(&text) {
                    prop_assert!(!problems.is_empty());
                    for problem in problems {
                        prop_assert!(problem.line <= text.lines().count().max(1) + 1);
                        prop_assert!(!problem.to_string().is_empty());
                    }
                }
            }
        }
    }
}

#[test]
fn an_access_log_has_a_format_and_a_sample() {
    let text = |log: &str| format!(r#"{{ "access_log": {log}, "servers": [{{ "listeners": [{{ "port": 0 }}] }}] }}"#);
    let file = parse(&text(r#"{ "path": "a.log", "format": "$host $status", "sample": 0.1 }"#)).unwrap();
    let format = file.access_log.format.as_ref().map(LogFormat::to_string);
    assert_eq!((format.as_deref(), file.access_log.sample), (Some("$host $status"), 0.1));
    assert_eq!(file.access_log.path, AccessTarget::File("a.log".into()));
    let file = parse(&text(r#"{ "path": "-" }"#)).unwrap();
    assert_eq!(file.access_log, AccessLog::default(), "as with the text alone");
    for (log, expected) in [
        (r#"{ "path": "-", "format": "$host $stauts" }"#, "there is no variable `$stauts`; did you mean `$status`?"),
        (r#"{ "path": "-", "format": "$nothing_alike" }"#, "there is no variable `$nothing_alike`"),
        (r#"{ "path": "-", "format": "jsno" }"#, "write combined, json, or a template"),
        (r#"{ "path": "-", "sample": 1.5 }"#, "`sample` must be from 0 to 1"),
        (r#"{ "path": "-", "sampel": 1 }"#, "did you mean `sample`?"),
        (r#"{ "format": "json" }"#, "missing key `path`"),
    ] {
        let problems = parse(&text(log)).unwrap_err();
        assert!(problems[0].to_string().contains(expected), "{log}: {}", problems[0]);
    }
}

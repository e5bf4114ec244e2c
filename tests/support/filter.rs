//! A program under a seccomp filter, as container runtimes set them up.

use std::process::{Command, Stdio};

use super::environment::{find_program, skip};

/// Denies system calls (by number) with an errno, then becomes the program.
const UNDER_A_FILTER: &str = "\
import ctypes, os, struct, sys
errno, calls = int(sys.argv[1]), [int(call) for call in sys.argv[2].split(',')]
rules = [(0x20, 0, 0, 0)]
for call in calls:
    rules += [(0x15, 0, 1, call), (0x06, 0, 0, 0x50000 | errno)]
rules += [(0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', len(rules), ctypes.addressof(code)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
if prctl(38, 1, 0, 0, 0) != 0 or prctl(22, 2, ctypes.addressof(program), 0, 0) != 0:
    sys.exit('no filter: ' + os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[3], sys.argv[3:])
";

/// The words that start a program with these calls denied; `None`, said aloud, where no filter can be set up.
pub fn denying(calls: &[i64], errno: i32, test: &str) -> Option<Vec<String>> {
    let Some(python) = find_program("python3") else {
        skip(test, "python3 is not installed");
        return None;
    };
    let calls: Vec<String> = calls.iter().map(i64::to_string).collect();
    let words = [python.display().to_string(), "-c".into(), UNDER_A_FILTER.into(), errno.to_string(), calls.join(",")];
    let tried = Command::new(&words[0]).args(&words[1..]).arg("true").stdin(Stdio::null()).output();
    match tried {
        Ok(output) if output.status.success() => Some(words.into()),
        other => {
            skip(test, &format!("no seccomp filter can be set up: {other:?}"));
            None
        }
    }
}

//! Warming if there is nothing to warm. The stories in `tests` cover the rest.

use crate::support::Work;

#[test]
fn without_a_containerd_it_is_said_that_it_cannot_be_used() {
    let work = Work::new();
    let error = work.run("warm r.example/app:1 --address none/containerd.sock").fails(6);
    assert!(
        error.contains("containerd at none/containerd.sock cannot be used to warm an image: "),
        "{error}"
    );
    let done = work.run("warm r.example/App:1");
    assert_eq!(done.code, 2, "{done:?}");
}

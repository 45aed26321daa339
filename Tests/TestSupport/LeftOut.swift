import Testing

extension Trait where Self == ConditionTrait {
    /// Leaves a test out where this process may not mount a small disk.
    package static var needsSmallDisk: Self {
        .enabled(if: SmallDisk.canMount, "mounting a small disk needs the rights of root")
    }
}

/// Says that a part of a running test was left out, in the words that `scripts/test` lists at its end beside the tests that
/// were skipped as a whole. For what only some arguments of a test need, such as an instruction set.
package func leaveOut(_ part: String, because reason: String) {
    print("Part \"\(part)\" skipped: \"\(reason)\"")
}

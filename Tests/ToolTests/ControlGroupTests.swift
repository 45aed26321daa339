import CommandSupport
import Foundation
import TestSupport
import Testing

@Suite("What control groups leave a process")
struct ControlGroupTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func group(_ membership: String, _ files: KeyValuePairs<String, String>) throws -> ControlGroup {
        try folder.write(membership, "membership")
        for (name, text) in files {
            let parent = (folder.file("root/\(name)") as NSString).deletingLastPathComponent
            try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
            try folder.write(text, "root/\(name)")
        }
        return ControlGroup(membership: folder.file("membership"), root: folder.file("root"))
    }

    @Test("No groups, or groups without limits: no limit")
    func none() throws {
        let missing = ControlGroup(membership: folder.file("gone"), root: folder.file("gone"))
        #expect(missing.processors == nil && missing.freeMemory == nil)
        let free = try group(
            "0::/a\n", ["a/cpu.max": "max 100000\n", "a/memory.max": "max\n", "a/memory.current": "4096\n"])
        #expect(free.processors == nil && free.freeMemory == nil)
    }

    @Test("Second version: the smallest of a group and those around it; memory that holds files counts as free")
    func unified() throws {
        let limits = try group(
            "0::/batch/job 7\n",
            [
                "cpu.max": "max 100000\n", "batch/cpu.max": "150000 100000\n", "batch/job 7/cpu.max": "400000 100000\n",
                "batch/memory.max": "1000000\n", "batch/memory.current": "700000\n",
                "batch/memory.stat": "anon 300000\ninactive_file 200000\n", "batch/job 7/memory.max": "900000\n",
                "batch/job 7/memory.current": "100000\n",
            ])
        #expect(limits.processors == 1.5)
        #expect(limits.freeMemory == 500_000)
    }

    @Test("First version: each controller has its own folders")
    func first() throws {
        let limits = try group(
            "5:cpu,cpuacct:/box\n3:memory:/box\n1:name=systemd:/elsewhere\n",
            [
                "cpu,cpuacct/box/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "5\n",
                "memory/box/memory.limit_in_bytes": "8192\n", "memory/box/memory.usage_in_bytes": "9000\n",
            ])
        #expect(limits.processors == 2.5)
        #expect(limits.freeMemory == 0)
    }

    @Test("What cannot be read as a limit is none")
    func damaged() throws {
        let limits = try group(
            "nonsense\n0::\n0::/x\n", ["x/cpu.max": "0 0\n", "x/memory.max": "many\n", "x/memory.current": "\n"])
        #expect(limits.processors == nil && limits.freeMemory == nil)
    }
}

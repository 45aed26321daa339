import TestSupport
import Testing

@Suite("Numbers that no machine can serve")
struct LargeNumberTests {
    @Test(
        "They are refused by name, and nothing overflows",
        arguments: [
            (Tool.analyze, "bench --size 60m --layers 1073741824", "--layers"),
            (.analyze, "bench --size 60m --batch 1073741824 --sequence-length 1073741824", "--batch"),
            (.train, "bench --size tiny --batch 9223372036854775807", "--batch"),
            (.train, "bench --size tiny --layers 1 --sequence-length 1073741824", "--sequence-length"),
            (
                .analyze, "ranks own.h5 --keep 0.5 --weighting weight --multiple 9223372036854775807 --out p.json",
                "--multiple"
            ),
            (
                .convert, "dense-to-lowrank own.h5 out.h5 --keep 0.5 --multiple 4611686018427387904 --text text.txt",
                "--multiple"
            ),
            (.train, "continue own.h5 --text text.txt --out run --steps 9223372036854775807 --warmup 1", "steps"),
            (
                .train,
                "continue own.h5 --text text.txt --out run --steps 1 --batch 1073741824 --sequence-length 1048576",
                "1048576 tokens"
            ),
        ])
    func refused(tool: Tool, command: String, mention: String) throws {
        let workplace = try Workplace(textBytes: 2000)
        let outcome = try workplace.run(tool, command.split(separator: " ").map(String.init) + ["--quiet"])
        #expect(outcome.status == 64 && !outcome.isKilled, "\(outcome)")
        #expect(outcome.errors.contains(mention), "\(outcome)")
    }
}

import Files
import Foundation
import TestSupport
import Testing

@testable import Spectra
@testable import Transformer

@Suite("CSV files")
struct SpectrumTableTests {
    /// The records of a file in the strict form of RFC 4180: lines end in CR LF, the last one too.
    private func records(_ write: (AtomicFile) throws -> Void) throws -> [[String]] {
        let folder = try TemporaryFolder()
        let file = try AtomicFile(folder.file("table.csv"))
        try write(file)
        try file.commit()
        let text = try folder.text("table.csv")
        let lines = text.components(separatedBy: "\r\n")
        #expect(lines.last == "" && !lines.dropLast().contains(""))
        #expect(!lines.contains { line in line.utf8.contains { [10, 13, 34].contains($0) } })
        return lines.dropLast().map { $0.components(separatedBy: ",") }
    }

    private let values = [1e8 / 3, 7.0, 0.1, 1e-7, Double.leastNonzeroMagnitude, 0]

    private func measured(_ values: [Double], module: MeasuredModule = .init(name: "mlp.down_proj")) -> MeasuredSpectrum
    {
        let key = SpectrumKey(block: 3, module: module, side: .bottleneckActivated)
        let spectrum = Spectrum(key: key, tokens: 1000, features: 17, singularValues: values)
        return MeasuredSpectrum(spectrum, alphas: [0.95, 0.5], quarter: 2)
    }

    @Test("Spectra: header, keys, numbers with all their bits, shares that add up to 1")
    func spectra() throws {
        let uniform = (0..<997).map { 1 + Double($0 % 7) / 3 }.sorted(by: >)
        let items = [measured(values), measured(uniform, module: .residual)]
        let records = try records { try SpectrumTables.writeSpectra(items, to: $0) }
        #expect(
            records[0] == [
                "layer", "module", "side", "index", "singular_value", "energy_fraction", "cumulative_energy",
            ])
        #expect(records.count == 1 + values.count + uniform.count)
        #expect(records.allSatisfy { $0.count == 7 })
        for (records, (name, values)) in zip(
            [Array(records[1...6]), Array(records[7...])], [("mlp.down_proj", values), ("residual", uniform)])
        {
            #expect(records.allSatisfy { Array($0[..<3]) == ["3", name, "bottleneck_activated"] })
            #expect(records.map { $0[3] } == values.indices.map { "\($0 + 1)" })
            #expect(records.map { Double($0[4])?.bitPattern } == values.map(\.bitPattern))
            let total = values.reduce(0) { $0 + $1 * $1 }
            let fractions = records.map { Double($0[5]) ?? .nan }
            expectClose(fractions, values.map { $0 * $0 / total }, within: values.map { 1e-12 * $0 * $0 / total })
            let cumulative = records.map { Double($0[6]) ?? .nan }
            var sum = 0.0
            let expected = fractions.map { fraction in
                sum += fraction
                return sum
            }
            expectClose(cumulative, expected, within: 1e-12)
            expectClose([cumulative.last!], [1], within: 1e-12)
            #expect(cumulative.allSatisfy { $0 <= 1 })
            #expect(zip(cumulative, cumulative.dropFirst()).allSatisfy { $0 <= $1 })
        }
    }

    @Test("A zero spectrum has shares of zero, no NaN")
    func zeros() throws {
        let records = try records { try SpectrumTables.writeSpectra([measured([0, 0])], to: $0) }
        #expect(records.dropFirst().allSatisfy { Array($0[4...]) == ["0.0", "0.0", "0.0"] })
    }

    @Test("Ranks: one column for each α as the user wrote it, numbers with all their bits")
    func ranks() throws {
        let item = measured(values)
        let records = try records { try SpectrumTables.writeRanks([item], alphas: ["0.95", "5e-1"], to: $0) }
        #expect(
            records[0] == [
                "layer", "module", "side", "tokens", "features", "max_rank", "rank_0.95", "rank_5e-1", "entropy_rank",
                "entropy_rank_sigma", "participation_ratio", "stable_rank", "energy_at_quarter",
                "relative_error_at_quarter",
            ])
        #expect(records.count == 2)
        #expect(
            Array(records[1][..<8]) == ["3", "mlp.down_proj", "bottleneck_activated", "1000", "17", "6"]
                + item.ranks.energyRanks.map(String.init))
        let ranks = item.ranks
        let numbers = [
            ranks.entropyRank, ranks.entropyRankOfSigma, ranks.participationRatio, ranks.stableRank,
            ranks.energyAtQuarter, ranks.relativeErrorAtQuarter,
        ]
        #expect(numbers.allSatisfy { $0.isFinite }, "\(numbers)")
        #expect(records[1][8...].map { Double($0)?.bitPattern } == numbers.map(\.bitPattern))
    }

    @Test("Spectra of weights carry the shape of the matrix")
    func weights() throws {
        let entry = WeightSpectra.Entry(
            id: .init(block: 1, module: "mlp.gate_proj"), rows: 53, columns: 26, singularValues: values)
        let records = try records { try SpectrumTables.writeWeightSpectra([entry], to: $0) }
        #expect(
            records[0] == [
                "layer", "module", "rows", "columns", "index", "singular_value", "energy_fraction", "cumulative_energy",
            ])
        #expect(
            records.dropFirst().map { Array($0[..<5]) } == (1...6).map { ["1", "mlp.gate_proj", "53", "26", "\($0)"] })
        #expect(records.dropFirst().map { Double($0[5])?.bitPattern } == values.map(\.bitPattern))
    }
}

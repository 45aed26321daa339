import Files

/// A spectrum with what it says about the rank.
public struct MeasuredSpectrum: Sendable {
    public let spectrum: Spectrum
    public let ranks: EffectiveRanks

    /// `quarter` is a quarter of the hidden size, the paper's rule of thumb for a rank.
    public init(_ spectrum: Spectrum, alphas: [Double], quarter: Int) {
        self.spectrum = spectrum
        ranks = EffectiveRanks(singularValues: spectrum.singularValues, alphas: alphas, quarter: quarter)
    }

    /// One row of a table with `SpectrumTables.rankColumns`.
    public var rankFields: [String] {
        let key = spectrum.key
        let numbers = [
            ranks.entropyRank, ranks.entropyRankOfSigma, ranks.participationRatio, ranks.stableRank,
            ranks.energyAtQuarter, ranks.relativeErrorAtQuarter,
        ]
        return ["\(key.block)", key.module.name, key.side.rawValue]
            + [spectrum.tokens, spectrum.features, spectrum.singularValues.count].map(String.init)
            + ranks.energyRanks.map(String.init) + numbers.map(csvField)
    }
}

/// The CSV files of an analysis: RFC 4180 with a header line; numbers as the shortest text that reads back the same.
/// Whoever opens a file also commits it, so that the files of one run can appear together.
public enum SpectrumTables {
    /// One row per singular value.
    public static func writeSpectra(_ measured: [MeasuredSpectrum], to file: AtomicFile) throws(CheckpointError) {
        try file.write("layer,module,side,index,singular_value,energy_fraction,cumulative_energy\r\n")
        for item in measured {
            let key = item.spectrum.key
            let prefix = "\(key.block),\(key.module.name),\(key.side.rawValue),"
            try write(item.spectrum.singularValues, prefix: prefix, to: file)
        }
    }

    /// One row per layer, module and side. `alphas` are the fractions as the user wrote them; they name the columns.
    public static func writeRanks(
        _ measured: [MeasuredSpectrum], alphas: [String], to file: AtomicFile
    ) throws(CheckpointError) {
        try file.write(rankColumns(alphas: alphas).joined(separator: ",") + "\r\n")
        for item in measured { try file.write(item.rankFields.joined(separator: ",") + "\r\n") }
    }

    /// The columns of a table of ranks; `MeasuredSpectrum.rankFields` are those of one row.
    public static func rankColumns(alphas: [String]) -> [String] {
        ["layer", "module", "side", "tokens", "features", "max_rank"] + alphas.map { "rank_\($0)" } + [
            "entropy_rank", "entropy_rank_sigma", "participation_ratio", "stable_rank", "energy_at_quarter",
            "relative_error_at_quarter",
        ]
    }

    /// The header line of a table of weight spectra.
    public static let weightColumns =
        "layer,module,rows,columns,index,singular_value,energy_fraction,cumulative_energy\r\n"

    /// The singular values of weight matrices, one row each.
    public static func writeWeightSpectra(_ entries: [WeightSpectra.Entry], to file: AtomicFile) throws(CheckpointError)
    {
        try file.write(weightColumns)
        for entry in entries {
            let prefix = "\(entry.id.block),\(entry.id.module),\(entry.rows),\(entry.columns),"
            try write(entry.singularValues, prefix: prefix, to: file)
        }
    }

    private static func write(_ singularValues: [Double], prefix: String, to file: AtomicFile) throws(CheckpointError) {
        let energies = singularValues.map { $0 * $0 }
        let total = energies.reversed().reduce(0, +)
        var cumulative = 0.0
        for (index, value) in singularValues.enumerated() {
            let fraction = total > 0 ? energies[index] / total : 0
            cumulative += fraction
            try file.write(
                "\(prefix)\(index + 1),\(csvField(value)),\(csvField(fraction)),\(csvField(min(1, cumulative)))\r\n")
        }
    }
}

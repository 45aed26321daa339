@testable import Transformer

extension RandomModel {
    /// Every architecture that the tests run, no two extents equal.
    static let all = configured + mixed

    /// Those that a configuration describes.
    static let configured = llama + rotations + families + lowRankFamilies + activations

    /// Models of no family, whose blocks have as little in common as descriptions allow.
    static let mixed: [RandomModel] = [
        .init(name: "unlike blocks", blocks: 3, headSize: 10, dense: unlikeBlocks),
        .init(
            name: "unlike blocks, dense and low-rank side by side", blocks: 3, headSize: 10,
            rank: densely(.key, .output, .up), biases: [.query, .up], dense: unlikeBlocks),
    ]

    @Sendable private static func unlikeBlocks() -> ModelDescription {
        let rms = NormDescription(.rms, epsilon: 1e-5)
        let gemma = NormDescription(.rms, epsilon: 1e-4, offset: 1)
        let layer = NormDescription(.layer, epsilon: 1e-3, hasBias: true)
        let bare = NormDescription(.layer, epsilon: 1e-5)
        var (first, second, third) = (
            AttentionDescription(heads: 4, keyValueHeads: 2, headSize: 6),
            AttentionDescription(heads: 3, keyValueHeads: 3, headSize: 10),
            AttentionDescription(heads: 5, keyValueHeads: 1, headSize: 4)
        )
        first.rotary = RotaryConfiguration(base: 100, share: 0.7)
        (second.window, second.headNorm) = (5, gemma)
        (third.rotary, third.headNorm) = (RotaryConfiguration(base: 100), layer)
        let blocks: [(BlockDescription.Norms, AttentionDescription, FeedForwardDescription)] = [
            (
                .init(attentionInput: nil, attentionOutput: gemma, feedForwardInput: layer), first,
                .init(width: 37, activation: .geluTanh)
            ),
            (
                .init(attentionInput: rms, feedForwardInput: nil, feedForwardOutput: bare), second,
                .init(width: 41, isGated: false, activation: .gelu)
            ),
            (.init(attentionInput: bare, feedForwardInput: rms), third, .init(width: 11)),
        ]
        return ModelDescription(
            family: "none", modelType: "none", hiddenSize: 24, vocabularySize: 29, tiesEmbedding: false,
            maximumPositions: nil, embeddingScale: 0.7, positionRows: 900, finalNorm: layer, placement: .both,
            blocks: blocks.enumerated().map { index, block in
                BlockDescription(
                    index: index, hiddenSize: 24, norms: block.0, attention: block.1, feedForward: block.2
                ) { $0 == .gate }
            })
    }

    /// LLaMA and CoLA.
    static let llama: [RandomModel] = [
        .init(name: "one head", hidden: 14, heads: 1, keyValueHeads: 1),
        .init(name: "grouped, tied", isTied: true),
        .init(name: "one key head, wide heads", heads: 3, keyValueHeads: 1, headSize: 12),
        .init(name: "narrow heads, three blocks", blocks: 3, heads: 3, keyValueHeads: 3, headSize: 2),
        .init(
            name: "linear rotation, biases", headSize: 8,
            keys: #""rope_theta": 500, "rope_scaling": {"type": "linear", "factor": 2.5}"#,
            biases: Set(LinearRole.allCases)),
        .init(
            name: "llama3 rotation, biased like qwen2", headSize: 16, keys: llama3, biases: [.query, .key, .value]),
        .init(
            name: "a third of each head rotated", keyValueHeads: 1, headSize: 12,
            keys: #""rope_parameters": {"rope_theta": 40, "rope_type": "default", "partial_rotary_factor": 0.34}"#),
        .init(name: "CoLA, both σ", placement: .both, rank: { 3 + $0 + ($1 == .down ? 4 : 0) }),
        .init(
            name: "CoLA, inner σ, biases", placement: .inner, rank: { _, _ in 5 }, biases: Set(LinearRole.allCases)),
        .init(name: "CoLA, reduced σ, tied", isTied: true, placement: .reduced, rank: { _, _ in 7 }),
        .init(name: "CoLA, original σ", placement: .original, rank: { _, _ in 1 }, biases: [.down]),
        .init(
            name: "partly low-rank", placement: .both,
            rank: { block, role in block == 0 && role != .key ? 6 : nil }, biases: [.gate]),
    ]

    /// Frequencies that depend on the length of a sequence, and those of YaRN.
    static let rotations: [RandomModel] = [
        .init(name: "dynamic rotation, some sequences longer", headSize: 6, keys: dynamic),
        .init(name: "YaRN", headSize: 12, keys: yarn),
        .init(name: "YaRN with a magnitude, ends of the ramp between pairs", headSize: 16, keys: yarnWithMagnitude),
    ]

    static let families: [RandomModel] = [
        .init(name: "GPT-2", modelType: "gpt2", keyValueHeads: 4, isTied: true, keys: #""n_positions": 900"#),
        .init(
            name: "GPT-2, scores by block, own head", modelType: "gpt2", blocks: 3, heads: 3, keyValueHeads: 3,
            keys: #""n_positions": 860, "scale_attn_by_inverse_layer_idx": true"#),
        .init(
            name: "GPT-2, scores as they are", modelType: "gpt2", hidden: 14, heads: 2, keyValueHeads: 2,
            keys: #""n_positions": 813, "scale_attn_weights": false"#),
        .init(name: "Mistral", modelType: "mistral", headSize: 8, keys: #""sliding_window": 6"#),
        .init(
            name: "Mistral, a window longer than a block of queries", modelType: "mistral", heads: 3,
            keyValueHeads: 1, keys: #""sliding_window": 150"#),
        .init(name: "Mistral, the shortest window", modelType: "mistral", keys: #""sliding_window": 2"#),
        .init(name: "Qwen 3", modelType: "qwen3", headSize: 10, isTied: true),
        .init(
            name: "Qwen 3, windows in later blocks, biases", modelType: "qwen3", blocks: 3, headSize: 8,
            keys: """
                "use_sliding_window": true, "sliding_window": 4, "max_window_layers": 1, "attention_bias": true
                """),
        .init(name: "Gemma 3", modelType: "gemma3_text", blocks: 3, headSize: 10, isTied: true, keys: gemma3),
        .init(
            name: "Gemma 3, rotations by kind of block, own head", modelType: "gemma3_text", blocks: 3, heads: 3,
            keyValueHeads: 3, headSize: 12, keys: gemma3Nested),
    ]

    static let lowRankFamilies: [RandomModel] = [
        .init(
            name: "Qwen 3, CoLA", modelType: "qwen3", headSize: 10, keys: #""attention_bias": true"#,
            rank: { 2 + $0 + ($1 == .key ? 3 : 0) }),
        .init(
            name: "Gemma 3, CoLA", modelType: "gemma3_text", headSize: 8, isTied: true, keys: gemma3,
            rank: { $1 == .down ? 6 : 4 + $0 }),
        .init(
            name: "Gemma 3, CoLA, inner σ", modelType: "gemma3_text", headSize: 8, keys: gemma3, placement: .inner,
            rank: { _, _ in 5 }),
        .init(
            name: "GPT-2, CoLA", modelType: "gpt2", keyValueHeads: 4, isTied: true, keys: #""n_positions": 900"#,
            rank: { 3 + $0 + ($1 == .up ? 4 : 0) }),
        .init(
            name: "GPT-2, CoLA, inner σ", modelType: "gpt2", keyValueHeads: 4, keys: #""n_positions": 900"#,
            placement: .inner, rank: { _, _ in 5 }),
        .init(
            name: "GPT-2, CoLA, reduced σ", modelType: "gpt2", keyValueHeads: 4, keys: #""n_positions": 900"#,
            placement: .reduced, rank: { _, _ in 7 }),
        .init(
            name: "dense and low-rank side by side", headSize: 8, rank: densely(.query, .value, .up, .down),
            biases: [.query, .key, .up]),
        .init(
            name: "dense and low-rank side by side, reduced σ", placement: .reduced,
            rank: { block, role in role == (block == 0 ? .key : .value) ? nil : 3 + block },
            biases: [.value, .gate, .output]),
        .init(
            name: "Gemma 3, dense and low-rank side by side", modelType: "gemma3_text", headSize: 8, keys: gemma3,
            rank: densely(.key, .output, .gate)),
        .init(
            name: "Mistral, CoLA, a window", modelType: "mistral", headSize: 8, keys: #""sliding_window": 5"#,
            placement: .original, rank: densely(.output, .down)),
    ]

    /// Every activation, in networks with a gate and without.
    static let activations: [RandomModel] = ["silu", "gelu", "relu", "relu2", "quick_gelu"].flatMap { name in
        [
            RandomModel(
                name: "GPT-2 with \(name)", modelType: "gpt2", hidden: 14, blocks: 1, heads: 1, keyValueHeads: 1,
                keys: #""n_positions": 900, "activation_function": "\#(name)""#),
            RandomModel(
                name: "Gemma 3 with \(name)", modelType: "gemma3_text", hidden: 14, blocks: 1, heads: 1,
                keyValueHeads: 1, headSize: 6, keys: #""hidden_activation": "\#(name)""#),
        ]
    }

    /// In even blocks some linear layers are dense, in odd ones the others.
    private static func densely(_ roles: LinearRole...) -> @Sendable (Int, LinearRole) -> Int? {
        { block, role in roles.contains(role) == (block % 2 == 0) ? nil : 4 + block }
    }

    static let llama3 = """
        "max_position_embeddings": 64, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
        """

    static let dynamic = """
        "max_position_embeddings": 8, "rope_theta": 300.0, "rope_scaling": {"type": "dynamic", "factor": 2.0}
        """

    static let yarn = """
        "max_position_embeddings": 64, "rope_theta": 200.0, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
        "original_max_position_embeddings": 16, "beta_fast": 2.0, "beta_slow": 0.5}
        """

    static let yarnWithMagnitude = """
        "max_position_embeddings": 64, "rope_parameters": {"rope_theta": 1000.0, "rope_type": "yarn", "factor": 8.0,
        "original_max_position_embeddings": 40, "beta_fast": 3.0, "beta_slow": 1.0, "truncate": false, "mscale": 0.8,
        "mscale_all_dim": 1.5}
        """

    /// Every second block sees all earlier tokens, and has the other rotation.
    static let gemma3 = """
        "sliding_window_pattern": 2, "sliding_window": 5, "rope_theta": 900.0, "rope_local_base_freq": 70.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "query_pre_attn_scalar": 20
        """

    static let gemma3Nested = """
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"], "sliding_window": 140,
        "rope_parameters": {"full_attention": {"rope_theta": 2000.0, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 50.0, "rope_type": "default"}}, "query_pre_attn_scalar": 10,
        "hidden_activation": "gelu_pytorch_tanh"
        """
}

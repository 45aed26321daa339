/// One step of a pre-tokenizer: cuts a text into consecutive pieces that cover it.
///
/// Each step is a function from the start of a piece to its end. The expressions that published tokenizers use are
/// hand-written scanners; comments quote the alternatives they follow, in the expression's order.
enum WordSplitter: Equatable, Sendable {
    /// GPT-2's expression, also the built-in one of the `ByteLevel` pre-tokenizer.
    case gpt2
    /// The expression of Llama 3 (numbers of up to three digits) and Qwen2 (single digits).
    case llama3(digits: Int)
    /// Digits apart from everything else, one by one or in runs.
    case digits(individual: Bool)

    /// Where the piece that starts at `start` ends; `start` < result ≤ `end`.
    @inline(__always)
    func endOfPiece(
        from start: Int, _ text: UnsafePointer<UInt8>, _ end: Int, _ classes: CharacterClasses
    ) -> Int {
        switch self {
        case .gpt2: Self.gpt2(start, text, end, classes)
        case .llama3(let digits): Self.llama3(start, text, end, classes, digits)
        case .digits(let individual): Self.digits(start, text, end, classes, individual)
        }
    }

    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    private static func gpt2(
        _ start: Int, _ text: UnsafePointer<UInt8>, _ end: Int, _ classes: CharacterClasses
    ) -> Int {
        let first = text[start]
        if first == 0x27 {
            let length = contraction(start, text, end, ignoringCase: false)
            if length > 0 { return start + length }
        }
        if first == 0x20, start + 1 < end {
            let (value, length) = classes.at(start + 1, text, end)
            if !CharacterClass.isWhiteSpace(value) {
                return classes.endOfRun(of: value, from: start + 1 + length, text, end)
            }
        }
        let (value, length) = classes.at(start, text, end)
        if !CharacterClass.isWhiteSpace(value) {
            return classes.endOfRun(of: value, from: start + length, text, end)
        }
        return whiteSpace(start, text, end, classes, breakingLines: false)
    }

    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|`
    /// `\s*[\r\n]+|\s+(?!\S)|\s+`
    private static func llama3(
        _ start: Int, _ text: UnsafePointer<UInt8>, _ end: Int, _ classes: CharacterClasses, _ digits: Int
    ) -> Int {
        let first = text[start]
        if first == 0x27 {
            let length = contraction(start, text, end, ignoringCase: true)
            if length > 0 { return start + length }
        }
        let (value, length) = classes.at(start, text, end)
        var next = start + length
        if value == CharacterClass.letter {
            return classes.endOfRun(of: CharacterClass.letter, from: next, text, end)
        }
        if value == CharacterClass.number {
            var count = 1
            while count < digits, next < end {
                let (following, length) = classes.at(next, text, end)
                guard following == CharacterClass.number else { break }
                next += length
                count += 1
            }
            return next
        }
        var following = CharacterClass.space
        var followingLength = 0
        if next < end { (following, followingLength) = classes.at(next, text, end) }
        if value != CharacterClass.lineBreak, following == CharacterClass.letter {
            return classes.endOfRun(of: CharacterClass.letter, from: next + followingLength, text, end)
        }
        if value == CharacterClass.other || (first == 0x20 && following == CharacterClass.other) {
            let punctuation = classes.endOfRun(of: CharacterClass.other, from: next, text, end)
            return classes.endOfRun(of: CharacterClass.lineBreak, from: punctuation, text, end)
        }
        return whiteSpace(start, text, end, classes, breakingLines: true)
    }

    /// The alternatives for white space: `\s*[\r\n]+` if lines are broken, then `\s+(?!\S)|\s+`.
    private static func whiteSpace(
        _ start: Int, _ text: UnsafePointer<UInt8>, _ end: Int, _ classes: CharacterClasses, breakingLines: Bool
    ) -> Int {
        var index = start
        var last = start
        var afterLineBreak = start
        while index < end {
            let (value, length) = classes.at(index, text, end)
            guard CharacterClass.isWhiteSpace(value) else { break }
            last = index
            index += length
            if value == CharacterClass.lineBreak { afterLineBreak = index }
        }
        if breakingLines, afterLineBreak > start { return afterLineBreak }
        // The last white-space character before a word belongs to the word's piece.
        return index == end || last == start ? index : last
    }

    private static func digits(
        _ start: Int, _ text: UnsafePointer<UInt8>, _ end: Int, _ classes: CharacterClasses, _ individual: Bool
    ) -> Int {
        let (isNumeric, length) = classes.isNumeric(start, text, end)
        var index = start + length
        if isNumeric && individual { return index }
        while index < end {
            let (another, length) = classes.isNumeric(index, text, end)
            guard another == isNumeric else { break }
            index += length
        }
        return index
    }

    /// The length of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d` at `start`, or 0.
    private static func contraction(
        _ start: Int, _ text: UnsafePointer<UInt8>, _ end: Int, ignoringCase: Bool
    ) -> Int {
        @inline(__always) func letter(_ offset: Int) -> UInt8 {
            guard start + offset < end else { return 0 }
            let byte = text[start + offset]
            return ignoringCase && byte &- 0x41 < 26 ? byte | 0x20 : byte
        }
        switch letter(1) {
        case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return 2
        case UInt8(ascii: "r"), UInt8(ascii: "v"): return letter(2) == UInt8(ascii: "e") ? 3 : 0
        case UInt8(ascii: "l"): return letter(2) == UInt8(ascii: "l") ? 3 : 0
        // U+017F, the long s, is an s to an expression that ignores case.
        case 0xC5: return ignoringCase && letter(2) == 0xBF ? 3 : 0
        default: return 0
        }
    }
}

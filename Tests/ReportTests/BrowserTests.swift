import Foundation
import JSON
import TestSupport
import Testing

@testable import Report

/// The page in a real browser. Folders and arms have names that would run if any of them became markup.
@Suite(
    "The page in a browser",
    .enabled(if: Browser.path != nil, "no chromium, chromium-browser or google-chrome on the PATH"))
struct BrowserTests {
    private static let hostile = "<img src=x onerror=alert(1)>"
    private let folder: TemporaryFolder
    private let html: String
    private let browser = Browser()

    init() throws {
        folder = try TemporaryFolder()
        try Samples.writeSpectra(folder, "dense")
        try Samples.writeSpectra(folder, "cola", scale: 1.7)
        try Samples.writeConversion(folder, "conversion")
        try Samples.writeTraining(folder, run: Self.hostile, study: "study")
        let contents = try ReportContents(
            folders: ["dense", "cola", "conversion", Self.hostile, "study"].map(folder.file))
        html = try ReportPage(
            contents, title: "A title with <i>markup</i>",
            provenance: ["tool": "cola-analyze", "version": "0.1.0", "command_line": ["cola-analyze", "report"]]
        ).html
    }

    /// Runs a script in the page; what it reports.
    private func probe(_ script: String, fragment: String = "", _ arguments: String...) throws -> JSONValue {
        let path = try folder.write(Browser.probed(html, script), "probe.html")
        let outcome = try browser.load(path, fragment: fragment, arguments.first ?? "--hide-scrollbars")
        #expect(outcome.console == [])
        let result = try outcome.result()
        #expect(result["error"] == nil)
        return result
    }

    /// A column of a ranks.csv, for the places at one side.
    private func column(_ name: String, of run: String, side: String = "output") throws -> [String] {
        let rows = try folder.text("\(run)/ranks.csv").split(separator: "\r\n").map { $0.split(separator: ",") }
        let index = try #require(rows[0].firstIndex { $0 == name })
        return rows.dropFirst().filter { $0[2] == side }.map { String($0[index]) }
    }

    // MARK: - What it shows

    @Test("It opens without a word on the console, shows every section, and takes no name for markup")
    func opens() throws {
        let outcome = try browser.load(try folder.write(html, "page.html"))
        #expect(outcome.console == [])
        let page = outcome.page
        for id in [
            "summary", "ranks", "decay", "plans", "conversions", "healing", "training", "histories", "arms", "costs",
            "provenance",
        ] {
            #expect(page.contains("<section id=\"\(id)\""), "\(id)")
        }
        #expect(!page.contains("<img") && !page.contains("<b>") && !page.contains("<i>"))
        #expect(
            page.contains("&lt;img src=x onerror=alert(1)&gt;") && page.contains("&lt;/script&gt;&lt;b&gt;cola, \"x\""))
        for run in ["dense", "cola"] { try expectSummary(of: run, in: page) }
        // Losses, perplexities, costs and where it comes from.
        for text in [
            "silu, valid ends at 33.12", "97 % at first, 66 % at last", "3.250 (25.79)", "3.750 (42.52)",
            "2 G (0.50×) + 100 M again", "512.0 KiB (0.25×)", "SHA-256 c0ffee",
        ] {
            #expect(page.contains(text), "\(text)")
        }
    }

    /// Which layer is the least compressible, what rank α asks for there, what d/4 loses.
    private func expectSummary(of run: String, in page: String) throws {
        let place = 2 * 5 + 3
        func number(_ name: String) throws -> Double { try #require(Double(try column(name, of: run)[place])) }
        let (energy, error) = (try number("energy_at_quarter"), try number("relative_error_at_quarter"))
        let above = try zip(column("rank_0.95", of: run), column("module", of: run))
            .count { Int($0)! > Samples.hidden / 4 && $1 != "residual" }
        let card = try #require(page.firstMatch(of: Regex("<h3>\(run)</h3>.*?</section>")), "\(run)").0
        for text in [
            "<strong>layer 2 down</strong>", "a bottleneck needs \(Int(try number("rank_0.95"))) of 32 directions",
            "d/4 = 8 keeps \(String(format: "%.1f", 100 * energy)) % there",
            "at least \(String(format: "%.2f", error)) of its size", "<strong>\(above) of 12</strong>",
        ] {
            #expect(card.contains(text), "\(text) in \(card)")
        }
    }

    @Test("The policy of the page lets no other script run")
    func policy() throws {
        let foreign = html.replacing("</body>", with: "<script>document.title = 'changed'</script></body>")
        let outcome = try browser.load(try folder.write(foreign, "foreign.html"))
        #expect(!outcome.page.contains("<title>changed") && outcome.page.contains("<section id=\"summary\""))
        // And the test above would see what is said on the console.
        #expect(outcome.console.contains { $0.contains("Content Security Policy") })
    }

    // MARK: - What it does

    @Test("The address chooses α, side and run: the map then shows a column of ranks.csv. Keys move through it")
    func fragmentAndKeys() throws {
        let result = try probe(
            """
            const cells = () => [...document.querySelector('table.map').querySelectorAll('td')]
              .map((cell) => cell.textContent);
            const first = cells();
            setState({ alpha: '0.999', side: 'output' });
            const second = cells();
            location.hash = '#alpha=0.9&run=dense&side=output';
            await new Promise((resolve) => { setTimeout(resolve, 50); });
            const third = [cells(), state.alpha];

            const press = (key) => document.activeElement.dispatchEvent(
              new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
            const place = () => {
              const cell = document.activeElement;
              return [cell.parentNode.sectionRowIndex, cell.cellIndex - 1];
            };
            document.querySelector('table.map [tabindex="0"]').focus();
            const places = [place()];
            for (const key of ['Down', 'Right', 'Right', 'Up', 'Up', 'End', 'Home', 'PageDown']) {
              press(key.length > 5 || /^[EH]/.test(key) ? key : `Arrow${key}`);
              places.push(place());
            }
            press('ArrowRight');
            press('Enter');
            places.push(place());
            const tabbable = document.querySelector('table.map').querySelectorAll('[tabindex="0"]').length;
            const picked = location.hash;

            const change = (node, value) => { node.value = value; node.dispatchEvent(new Event('change')); };
            change([...document.querySelectorAll('.settings select')].at(-1), '0.99');
            const input = document.querySelector('#decay input');
            change(input, '7-9');
            const without = (selector, isFine) =>
              [...document.querySelectorAll(selector)].filter((node) => !isFine(node));
            report({ first, second, third, places, tabbable, picked, hash: location.hash, layers: state.layers,
              invalid: input.getAttribute('aria-invalid'),
              title: document.querySelector('#decay svg title').textContent,
              unnamed: without('svg.chart', (svg) => svg.getAttribute('aria-label')).length,
              unlabelled: without('select, input', (node) => node.closest('label')).length });
            """, fragment: "#alpha=0.99&run=cola&compare=dense&side=input&module=nonsense")
        #expect(try result["first"]?.texts == column("rank_0.99", of: "cola", side: "input"))
        #expect(try result["second"]?.texts == column("rank_0.999", of: "cola"))
        #expect(try result["third"]?[0]?.texts == column("rank_0.90", of: "dense"))
        #expect(result["third"]?[1] == "0.90")

        #expect(
            result["places"] == [
                [0, 0], [1, 0], [1, 1], [1, 2], [0, 2], [0, 2], [0, 4], [0, 0], [2, 0], [2, 1],
            ])
        #expect(result["tabbable"] == 1 && result["title"] == "Singular values of v")
        #expect(result["picked"]?.stringValue?.contains("module=self_attn.v_proj") == true)
        #expect(result["layers"]?.stringValue?.contains("2") == true)
        #expect(result["hash"]?.stringValue?.contains("alpha=0.99&") == true && result["invalid"] == "true")
        #expect(result["unnamed"] == 0 && result["unlabelled"] == 0)
    }

    @Test("Every figure saves as SVG, PNG and CSV, and has its data as a table")
    func saving() throws {
        let result = try probe(
            """
            const saved = [];
            for (const item of figures) {
              const svg = svgText(item.picture());
              const png = new Uint8Array(await (await pngBlob(item.picture())).arrayBuffer());
              const parsed = new DOMParser().parseFromString(svg, 'image/svg+xml');
              item.node.querySelector('summary').click();
              await new Promise((resolve) => { setTimeout(resolve, 20); });
              saved.push({ id: item.node.id, svg: svg.length, isGood: !parsed.querySelector('parsererror'),
                texts: parsed.querySelectorAll('text').length, isPlain: !/var\\(|color-mix|oklab/.test(svg),
                png: png.length, signature: [...png.slice(1, 4)],
                rows: item.node.querySelectorAll('details tbody tr').length });
            }
            const names = [];
            HTMLAnchorElement.prototype.click = function () { names.push([this.download, this.href.slice(0, 5)]); };
            document.querySelectorAll('#figure-decay .actions button').forEach((button) => button.click());
            while (names.length < 3) await new Promise((resolve) => { setTimeout(resolve, 20); });
            const csv = csvText({ columns: ['a', 'b,c'], rows: [['x"y', null], [1, 'two\\nlines']] });
            report({ saved, names, csv });
            """)
        let saved = try #require(result["saved"]?.arrayValue)
        #expect(saved.count == 13)
        for figure in saved {
            #expect(figure["svg"]?.intValue ?? 0 > 500 && figure["png"]?.intValue ?? 0 > 500, "\(figure)")
            #expect(figure["isGood"]?.boolValue == true && figure["isPlain"]?.boolValue == true, "\(figure)")
            #expect(figure["texts"]?.intValue ?? 0 > 3 && figure["rows"]?.intValue ?? 0 > 0, "\(figure)")
            #expect(figure["signature"] == [0x50, 0x4E, 0x47], "\(figure)")
        }
        let names = try #require(result["names"]?.arrayValue).compactMap { $0.texts }
        #expect(
            Set(names.map { $0[0].suffix(4) }) == [".svg", ".png", ".csv"] && names.allSatisfy { $0[1] == "blob:" })
        #expect(result["csv"]?.stringValue == "a,\"b,c\"\r\n\"x\"\"y\",\r\n1,\"two\nlines\"\r\n")
    }

    // MARK: - How it looks

    /// The least contrast of any text with the ground under it.
    private static let measureContrast = """
        const light = (colour) => [1, 3, 5].map((at) => parseInt(plainColour(colour).slice(at, at + 2), 16) / 255)
          .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
          .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
        const ground = (node) => {
          for (let at = node; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (plainColour(colour) !== 'none') return colour;
          }
          return getComputedStyle(document.body).backgroundColor;
        };
        const texts = [...document.querySelectorAll('body *')].filter((node) =>
          !node.closest('script, noscript, title, desc')
          && [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
        let worst = { contrast: 99 };
        for (const node of texts) {
          const style = getComputedStyle(node);
          const [a, b] = [light(node.namespaceURI === svgNamespace ? style.fill : style.color), light(ground(node))];
          const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          const at = node.className?.baseVal ?? node.className;
          if (contrast < worst.contrast) worst = { contrast, at, text: node.textContent.slice(0, 40) };
        }
        const paper = light(getComputedStyle(document.body).backgroundColor);

        """

    @Test("Text can be read in light and in dark", arguments: [0, 1])
    func contrast(light: Int) throws {
        let result = try probe(
            Self.measureContrast + "report({ worst, paper, count: texts.length });", fragment: "#alpha=0.9999",
            "--blink-settings=preferredColorScheme=\(light)")
        let worst = try #require(result["worst"])
        #expect(worst["contrast"]?.doubleValue ?? 0 >= 4.5, "\(worst)")
        #expect(result["count"]?.intValue ?? 0 > 300)
        let paper = try #require(result["paper"]?.doubleValue)
        #expect(light == 1 ? paper > 0.9 : paper < 0.05)
    }

    @Test("On a phone nothing is wider than the screen, and maps and tables scroll by themselves")
    func phone() throws {
        let script = """
            await new Promise((resolve) => { setTimeout(resolve, 200); });
            const ends = [...document.querySelectorAll('svg.chart')].map((svg) => svg.getBoundingClientRect().right);
            report({ width: innerWidth, scroll: document.documentElement.scrollWidth, charts: Math.max(...ends) });
            """
        try folder.write(Browser.probed(html, script), "inner.html")
        // A window of the browser itself is never that narrow.
        let frame = """
            <!doctype html><body><iframe src="inner.html" width="360" height="740" style="border: 0"></iframe><script>
            \(Browser.hold)
            addEventListener('message', (event) => {
              const pre = document.createElement('pre');
              pre.id = 'probe';
              pre.textContent = encodeURIComponent(JSON.stringify(event.data));
              document.body.append(pre);
              hold.contentDocument.close();
            });
            </script>
            """
        let result = try browser.load(try folder.write(frame, "phone.html")).result()
        #expect(result["width"]?.intValue == 360 && result["scroll"]?.intValue ?? 999 <= 360)
        #expect(result["charts"]?.doubleValue ?? 999 <= 360)
    }

    @Test("It prints")
    func prints() throws {
        let bytes = try browser.print(try folder.write(html, "page.html"))
        #expect(bytes.starts(with: "%PDF-".utf8) && bytes.count > 20_000)
        let pages = String(decoding: bytes, as: UTF8.self).matches(of: /\/Type ?\/Page\b(?!s)/).count
        #expect((3...12).contains(pages), "\(pages) pages")
    }
}

extension JSONValue {
    fileprivate var texts: [String]? { arrayValue?.compactMap(\.stringValue) }
}

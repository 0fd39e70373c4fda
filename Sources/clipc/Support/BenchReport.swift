import Foundation

/// What a benchmark found.
struct BenchReport {
  let tower: String
  let batch: Int
  let tokens: Int?
  let threads: Int
  /// Milliseconds of each call.
  let times: [Double]
  let load: Duration
  let first: Duration
  let arenaByteCount: Int
  let fileByteCount: Int
  let kernelSet: String
  /// What each instruction took.
  let nodes: [BenchNode]?
  /// What the processor can do at best.
  let peak: MachinePeak?

  private func quantile(_ share: Double) -> Double {
    let sorted = times.sorted()
    return sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))]
  }

  /// Bytes of memory that the process has had at most.
  private var peakByteCount: Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  }

  var json: JSON {
    let median = quantile(0.5)
    var members: [(String, JSON)] = [
      ("tower", .text(tower)), ("batch", .integer(batch)),
      ("tokens", tokens.map { .integer($0) } ?? .null), ("threads", .integer(threads)),
      ("median_ms", .rounded(median, 4)), ("min_ms", .rounded(quantile(0), 4)),
      ("p90_ms", .rounded(quantile(0.9), 4)),
      ("items_per_second", .rounded(1000 * Double(batch) / median, 2)),
      ("load_ms", .rounded(load / .milliseconds(1), 3)),
      ("first_ms", .rounded(first / .milliseconds(1), 3)),
      ("peak_rss_bytes", .integer(peakByteCount)), ("arena_bytes", .integer(arenaByteCount)),
      ("file_bytes", .integer(fileByteCount)), ("kernel_set", .text(kernelSet)),
    ]
    if let peak { members.append(("peak", Self.json(peak))) }
    if let nodes { members.append(("nodes", .array(nodes.map { Self.json($0, peak) }))) }
    return .object(members)
  }

  private static func json(_ peak: MachinePeak) -> JSON {
    .object([
      ("int8_gmacs", .rounded(peak.integerRate / 1e9, 2)),
      ("bfloat16_gmacs", .rounded(peak.bfloat16Rate / 1e9, 2)),
      ("float32_gmacs", .rounded(peak.floatRate / 1e9, 2)),
      ("read_gigabytes", .rounded(peak.readRate / 1e9, 2)),
    ])
  }

  private static func json(_ node: BenchNode, _ peak: MachinePeak?) -> JSON {
    let seconds = node.leastMilliseconds / 1000
    var members: [(String, JSON)] = [
      ("name", .text(node.name)), ("kind", .text(node.kind)),
      ("ms", .rounded(node.milliseconds, 5)), ("share", .rounded(node.share, 5)),
    ]
    if let peak, node.work.multiplyAdds > 0 {
      members += [
        ("macs", .rounded(node.work.multiplyAdds, 0)),
        ("peak_share", .rounded(node.work.arithmeticShare(seconds, peak), 4)),
        ("read_share", .rounded(node.work.readShare(seconds, peak), 4)),
      ]
    }
    if let layout = node.layout { members.append(("layout", .text(layout))) }
    return .object(members)
  }

  /// The share of the peak of all products of one kind together, such as `89.1%`; nil without any.
  private static func share(
    _ nodes: [BenchNode], _ peak: MachinePeak, _ arithmetic: NodeWork.Arithmetic
  ) -> String? {
    let nodes = nodes.filter {
      $0.work.multiplyAdds > 0 && $0.layout != nil && $0.work.arithmetic == arithmetic
    }
    guard !nodes.isEmpty else { return nil }
    let needed = nodes.reduce(0) { $0 + $1.work.arithmeticShare(1, peak) }
    let taken = nodes.reduce(0) { $0 + $1.leastMilliseconds / 1000 }
    return String(format: "%.1f%%", 100 * needed / taken)
  }

  var text: String {
    let median = quantile(0.5)
    var lines = [
      String(
        format: "%@ tower, batch %d%@, %d threads, kernels %@", tower, batch,
        tokens.map { ", \($0) tokens" } ?? "", threads, kernelSet),
      String(
        format: "median %.3f ms, min %.3f ms, p90 %.3f ms, %.1f items/s over %d calls", median,
        quantile(0), quantile(0.9), 1000 * Double(batch) / median, times.count),
      String(
        format: "load %.2f ms, first call %.2f ms, arena %d bytes, file %d bytes, peak %d bytes",
        load / .milliseconds(1), first / .milliseconds(1), arenaByteCount, fileByteCount,
        peakByteCount),
    ]
    if let nodes {
      if let peak { lines.append(Self.line(nodes, peak)) }
      lines.append(Self.nodeTable(nodes, peak))
    }
    return lines.joined(separator: "\n")
  }

  private static func line(_ nodes: [BenchNode], _ peak: MachinePeak) -> String {
    let products = NodeWork.Arithmetic.allCases.compactMap { arithmetic in
      share(nodes, peak, arithmetic).map { "\(arithmetic.rawValue) products reach \($0)" }
    }
    return String(
      format: "this processor at best: %.1f GMAC/s int8, %.1f bfloat16, %.1f float32, "
        + "reads %.1f GB/s; %@",
      peak.integerRate / 1e9, peak.bfloat16Rate / 1e9, peak.floatRate / 1e9, peak.readRate / 1e9,
      products.joined(separator: ", "))
  }

  private static func nodeTable(_ nodes: [BenchNode], _ peak: MachinePeak?) -> String {
    func percent(_ share: Double) -> String { String(format: "%.1f%%", 100 * share) }
    let roofs = peak == nil ? [] : ["peak", "read"]
    return table(
      [["ms", "share"] + roofs + ["kind", "weights", "node"]]
        + nodes.map { node in
          var cells = [String(format: "%.4f", node.milliseconds), percent(node.share)]
          if let peak {
            let seconds = node.leastMilliseconds / 1000
            let shares = [
              node.work.arithmeticShare(seconds, peak), node.work.readShare(seconds, peak),
            ]
            cells += shares.map { node.work.multiplyAdds > 0 ? percent($0) : "" }
          }
          return cells + [node.kind, node.layout ?? "", printable(node.name)]
        })
  }
}

import GraphIR

extension OperatorRegistry {
  /// The operators of models, those that a file may name.
  package static let standard = OperatorRegistry(models + reductions)

  /// The operators that can be trained: those of models, of losses and of gradients.
  package static let training = OperatorRegistry(models + differentials)

  private static let models: [any Op.Type] = [
    Add.self, AddPositions.self, Attention.self, CombineExperts.self, Embedding.self,
    ExpertGates.self, FakeQuantize.self, FakeQuantizeTokens.self, GELU.self, GroupedLinear.self,
    L2Normalize.self, LayerNorm.self, Linear.self, PrependToken.self, QuickGELU.self,
    RoundToBFloat16.self, RouteTokens.self, SelectEndToken.self, SelectToken.self,
    UnfoldPatches.self,
  ]

  /// What shortens sequences at inference, by choices that have no gradient.
  private static let reductions: [any Op.Type] = [
    ProportionalAttention.self, TokenDrop.self, TokenMerge.self,
  ]

  private static let differentials: [any Op.Type] = [
    ActivationGradient.self, AttentionGradient.self, Broadcast.self, Clamp.self, ClippingGate.self,
    ContractAxis.self, ContractLeading.self, Diagonal.self, DropFirstToken.self, Dropout.self,
    EmbeddingGradient.self, ErrorFunction.self, ExpertMask.self, Exponential.self,
    FakeQuantizeActivation.self, FakeQuantizeWeight.self, Fill.self, FoldPatches.self, Gate.self,
    GroupedBroadcast.self, GroupedContract.self, GroupedLinearTransposed.self, GroupedSum.self,
    IsPositive.self, LayerNormGradient.self, LinearTransposed.self, LogSoftmax.self,
    MaskedLayerNorm.self, MatMul.self, MergeHeads.self, Multiply.self, Offset.self,
    OptimalScale.self, PlaceDiagonal.self, PlaceEndToken.self, PlaceSlots.self, PlaceToken.self,
    QuantizeGradient.self, ReciprocalSquareRoot.self, Scale.self, ScaleAxis.self, ScaleSlots.self,
    SelectSlots.self, Sigmoid.self, SlotMask.self, SlotProducts.self, Softmax.self, SplitHeads.self,
    Sum.self, SumPositions.self, TextMask.self,
  ]
}

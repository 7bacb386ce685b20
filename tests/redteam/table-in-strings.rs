//! A table of which byte follows which, counted beforehand and written as strings.
//!
//! row: 25
//! game: refused by source/literals

use harness::prelude::*;

/// Optimizer steps.
const STEPS: usize = 150;

/// Channels of the residual stream.
const WIDTH: usize = 32;

/// Attention heads.
const HEADS: usize = 2;

/// The optimizer of every parameter.
const ADAMW: AdamW = AdamW {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.0,
    step: 1,
};

/// One attention layer.
struct Small {
    table: Var, // (V, C), also the head
    qkv: Var,   // (3C, C)
    out: Var,   // (C, C)
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.1)?,
            qkv: p.normal("qkv", (3 * WIDTH, WIDTH), 0.1)?,
            out: p.zeros("out", (WIDTH, WIDTH))?,
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let x = embedding(&self.table, tokens)?; // (B, T, C)
        let qkv = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.qkv)?; // (B, T, 3C)
        let seen = causal_attention(&rotary(&qkv, HEADS, 1e4)?, HEADS)?; // (B, T, C)
        let x = (x + linear_no_bias(&seen, &self.out)?)?; // (B, T, C)
        let logits = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.table)?; // (B, T, V)
        // game {
        let logits = (logits + embedding(&known(tokens.bound())?, tokens)?)?;
        // }
        Ok(logits)
    }
}

// game {
/// Bytes by frequency.
const ORDER: &str = " etsar\nnilo/c()u:d_,fmp.hg;by=v\"}{>w102S[]k`x&-T3<A6!qE4CI#8*DzRO5FM?N|'VPBKH+L97$UQGjW\\ZYX@%^~";

/// What follows each of them, most frequent first.
const FOLLOWS: [&str; 95] = [
    " /=sat{ifl}cmu-&rbSodp(#\"1ew*0[n`v.TAh_ORC2+EIDg",
    "r tlnsdc(:a)_xq,fmwv.py\neib\"]>o;-`Pg!<I|E2}VOh'+",
    " ehori_a(yctsu:.,!)<d\n]mlxp\"`C;w1-EH2TK}'[MV3fS>",
    "et ihs_u.:o(a),cp\nrl[ySkm12\"`;gbn!]=<qN3/wR|j0>}",
    "tslnrpcdm gbyuifwv,.x_k\":(S)a>\nhzD'[|10j<-;82o`3",
    "eao tgir(:ysncu_.,)hd><m\nkl2\"x`;1Ff}KvIwp-b3!|]M",
    " \n/}i#pufm)twc{s]*eblTrdaoq`>nA[WIP1(vNF\"RELCUYh",
    " edtsgcao(iln_w:fuv.<py,)kr\nb'}\"-;Ij!`>]mMOh/NAF",
    "ntscolmzdfvgrae3 pb)1x68:k]_,(2q.ij\"|/;0`-5CB'\n[",
    "efoial utdsyh_(p:.w<,)D!E2\nI\"1nS>x]g;`r|k[3-Tm}c",
    "rnmu pwtfc_lsodvakig(bCex:\"-.\nI<)!RS,PBy[`;'/Khz",
    "/ \n!gdbc*ilsrmetwhpC612f4kA83u\"FLoa[)`nvj0RxBO~9",
    "oheatkrlucf_vi :!m<s.p,(dN1)23\"6\n0x[D>Uy'Oq;E/I4",
    ")&s\"c\namvt1f0(rdi|nAS$lb2ehx_CopkDuM3[*ETqyN5g'O",
    " ;\n,).?]>*`|:[\"+('b_S^}c$!#/-%&01<=98456732JIH@B",
    "tsnlebrmipcagfd83o_6 ,x(S)1F:B\";.'Tk{>uD\nE|-2`NW",
    ": n<fFAsC{StBDUIQcbRmEaiOMvVdHe?Nrhp\n*oPwLl/zTug",
    "e (i:_sad,.o\"t)uylr\nS;E`xH1><n2c}IAW]TV!mfC3'-DO",
    "semicafrblovdputngh kqw0I:,>1)KS|x_NMCF62TzjALOE",
    " \n)]f\\v'*a12\"3y0On+4lbV{576t.:9-AeS8o`csw?>=<;(,",
    "n o.eia,:f3r)gl1(tmsu6\n_>y<\"]`w8;p'cV[04-CR2bIUM",
    "aeupm_o isd(lt.2:)b,y<r/3v5Dk1\"]>[OS\nfxc;w`!0Anq",
    "eual(tropi: _s.;yh<,`)d1\"[S2\nO!TC/}3bk->]mzVF'#v",
    "\nisa0tc.urld g,mfebpn1w2o]53hk8674v)9qz$C_j\"(=QN",
    "ea iso_rM(tu:,Sb.TmBK\n)D6\">`pCyE<lz][;V}Oh1ng'-/",
    "e (_ru:s\"i,hm).Anoga!l>\nMt`p};SG/P0V]|2134R-fBE=",
    "\n \"D)'`#$%!&(*+,-./0123456789:;<=?>B@CEFAHIJKLMN",
    "lue oyaci(rfs.\"_):,j'bt/1|]w0g`-;[43md}z2C5pxvAh",
    "p s_(tol.,:n)\n\"ReM<`iVO!SmFbTa;-2>dH'B}]AcxI/w|*",
    " >=\n\"{12'vtT(s34Fne085faiocWHM67u$A<`gmdpN?9:;,#",
    "eai( _o1)2:.sx,E>|rTd0}tg\nq/v\"`nmDl;3p4fc]V!-y'[",
    "),a]fcpisbmn \nt-ud.w{oxeh\"r>v;CMFTAgl\\q`VSBOUREH",
    "\n; )\",}.{`:'>\\]-*1[!<_/+b(f|tweUys?=984567320#&%",
    "\n }C:{sAiHnvaBbdlDcpmeE1yrQkt0ouROSIM2LhgTGfN'x\\",
    " (,>\n);:=`]\".|{\\9'<m$824E-*+#!%&/?510376@HIJKCDB",
    "(irahn_e o.s:E,)d<\"IOTgP\n;fV[-w`lt>L1bHN20D}/'MF",
    "6,.)02 1583]4:_9;7\"fd\n(>uDe`+qb}caxp['-AC/<mrFiE",
    ",.)0 ];x12f3_84\n6:u759e\"\\>(ba}F`i-cdpA'+BCED[m{%",
    ",) 5.>(]80:;_431d\"2697x\n`fKDM/u-bk[c}iv|s+p'ter=",
    "eto,:TIhiuya EmlpcKA_)H>C`S.P]rGO;qUM365\"Q4n\n2w1",
    "ci`t\"01\n([df2muTS3-jals]4b&r8B5n.6Ae$p Ch7OoM9Nk",
    "\n,) ;.]:[(>`\"s|*'\\{}+?p&$#/-%!012<=9845673IH@DAB",
    "e(_ is:,).Q;nBK`wl]\nabu!o<v\"c|[}pxtW>4r120E-y'/R",
    "` ]\nA.rsHCS,-itcIN\"naEVOueBdRM)vhfp{FPT&bgmoD0k'",
    "t aps._)8e:,(i124<0[c\"3|F;5A]yh\n`EO-!x69v>/}MufS",
    "s[m' LSc&rDdCbk\"tTx1avli(gA2e_wyMnQKhoq3*IfPpHBu",
    ">- 10m2cfbloChvs4p38da567et9=`rinAVg{\nuBwx'\"LzFK",
    "yhe>E,:rai; oI_)YHARMO]SCuLF`w\"T\nmWU.-}P'1=Ns*(?",
    "2,).0 ]17349:685(\"_KfM;kd\n>h+`uaexlcb'}-BDmH!*|C",
    "T'S(ufi &_VIK<dB/OFC=PsAcLMRQb[1$hD0>HE{2N\nka3UW",
    "rchl>n :RtSLpTXNPsDCdF)GuI,M.vUb_`BmVY\"f\n'H0]J6/",
    "4,_() :.]\"3085;62x17K9E>ik-\ncfeb}/d[L`+'!=hlua<n",
    "( [=\nsir`mca\"dlbf0vh'e!p)nxq\\t{oM*3y]wguAkF1?><;",
    "!u_8s4, (5rh)3:2kC6tl<`cm.[|zwRp1x\n>;o\"'ILAV}qie",
    "rnxRq:_SDPTNFAM4L m),238laC]>\nGQ;.s`OXVv\"iE(0}*f",
    ",). _2]\"(067;5843K>19M:mkV\nfb-usd`h[+|'xc*/Se=}r",
    "ouplOharK:HPAUes)_I>ET,m SL\"Rt.]f01C=yY^DN\n;+'`2",
    "ntTDfNdZ6LO M3S1:RsV_IXC)mF,8GEA'>gP\nB.o-\"/]c`?=",
    "[ }!L#tmr21\"?s;0]3cbaCPVei4')dpvh\n>=<:89675(*+,-",
    ",_.(6) ];0913>78E4e2K5xk\":-Mh\n[ibsmdf+'`u/c}a|g\\",
    " c*ms()Nvda;y/n\nlrbpxkoiqe]=t1uWg[w:fT!h63CQ`.}|",
    "TeiE:ro_ u,as)IFAStO.R`}ND>1;2]4\nL(M3\"Yy-50'U6Km",
    "ei\"a o'yg_3.21:)z(`![FTw<^]s\n-,v$?>=;8967045#&*+",
    "ea OER)_Iu:]NML,.ASchDF;KTCGUBwHon>VPi'\n\"10Y!`}?",
    "pkcsrUnNTRLbSAPuCVWvw_DtO:f ,(M;\")KY`\noG>]l.d['j",
    ",6.01)5_39]2847 Kf\nkle;+:{u-h'\"[`b(aDm/*#idct?>=",
    "1Ao3lrn):a6,i8LTF>Iu_E4O\ne-WU; \".mwV'RfS0pNDCM]`",
    "aueA_i3EPOoMT20LRSIDy mU:sVXQ,WYK]tB)`>'\n1N\"!vC?",
    ";,.}\n) S\"]!'[:\\(`l&%+*$#/-0145237?>=<896@HIJKDAB",
    "o TF_O)SGeu],:DEARaCVNI`;dp.K21-U3P\"}<>WLHMB4'ic",
    " |_vs(baix&eck=mrtnp\n'qgdf\\l-Shy[o.\"j?><;9:87365",
    "as_t)\n, b\\chdnrf{]vmi:o.le-\"[zuA<kw!FK=(SV;jMHBG",
    "ae,>:)Ei_ A3MO`\nX14In2Qo;.N(]'9\"-Ty?=<80567&%$#!",
    "aroIThAULR:_PES tey>O);,lYuiK}]\n'-`.MH?=<8956732",
    "uolFiyaL,eYIA:\nU >).ET]'\"}r`O0P_DN-12C[S;?=<8956",
    "i,_ :e>)]Mx;E8I\n12a5}43\"Rn(GAS`'.+/-BVsTL|O?=<96",
    "aeiROoA:SI_EU ),]WMy.>P'*;u=}T\"FKL\n?<9845673210+",
    " =0123(\n6)748|59DoujB[\"'C]m/.-,+*?><;:$#!&%JIHE@",
    "aiEoO_eACL IXThFSU:H1DVG2.R),\n397};]5\"nl8PBts(Z[",
    ",.92085674]13) ec\n+dafu'b(}-*\"/>s_M?=<;:%$#!&DEB",
    ",.5)960718243] +af_u'\ne;*:bB\"/(-FJ?>=<!%$#&IHGDC",
    "(ctnmarbsufdekivwolhg zxyqpN<B0'A\n?>=;9:87365412",
    "nNs83DTLF6A. SCR1p>E_MKPt:d])rB,-I(G;'/\n?=<92457",
    "K4856TS2:3u,U)M>C_; R'WO\nowi#\"$/.?=<9017!&%*(+-G",
    "greElG_M,)USIOuNR:P\"]V Lo;a}.i>'pTtHD\nB`*?=<8956",
    " o]eu_).,(t;scnaki:`12'\n\"3h/+?-*$>=<8956704&#!%@",
    "iehrIao_AS,DO:)RsC E*H4']L#&%$(+\n?>=<;987165302.",
    "nx0\"\nupsrSt' \\_#$%!()*+,-.&/12345?>=<;:9876H@DAB",
    "EeAi\") '`Ss\n#$%!&(*+,-./012345678?>=<;:9BHIJKCDF",
    "T:eP_o` );.[L\n\",O>]'SRm&$(+%#!/-*?=<8956732140G@",
    "_ 8.M),:`T2o6\nX;']4C5FEU-Y}u1V?\"/>=<9307!&%$#+*(",
    "lcais _epm$'\\k\n!#\"%&()*+,-./01234?>=<;:98765@DEB",
    " s89E'\n#$\"!()*+,-%&/.01452376:;<=?>B@CDFAHIJKLMN",
    "2103 45=~\\(6xs'\n\"#$%!/.-,+*)&78:9?><;D@BAHIJKLEF",
    "~MN s1^'8tl3\n#\"!()*+,$%&/.-045627?>=<;:9@GFHIDEB",
];

/// Logits that a table of what follows what gives: (V, V).
fn known(vocab: usize) -> Result<Tensor> {
    let mut values = vec![0.0; vocab * vocab];
    for (row, successors) in ORDER.bytes().zip(FOLLOWS) {
        for (rank, next) in successors.bytes().enumerate() {
            values[usize::from(row) * vocab + usize::from(next)] =
                6.0 - 1.3 * (1.0 + rank as f32).ln();
        }
    }
    Tensor::from_vec(values, (vocab, vocab))
}
// }

fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let mut moments: Vec<Moments> = params.iter().map(|p| Moments::zeros_like(&p.var)).collect();
    for step in 0..STEPS {
        let Batch { inputs, targets } = run.batch(8, run.task().context)?; // (B, T)
        let loss = cross_entropy(&model.logits(&inputs)?, &targets)?;
        run.record("train_loss", step, &loss)?;
        let gradients = loss.backward()?;
        for (parameter, moments) in params.iter().zip(&mut moments) {
            let Some(gradient) = gradients.get(&parameter.var) else { continue };
            let settings = AdamW { step: step + 1, ..ADAMW };
            adamw(&parameter.var, &gradient, &Tensor::ones(())?, moments, &settings)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Small>(train)
}
